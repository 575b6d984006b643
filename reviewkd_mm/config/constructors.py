"""Constructors of optimizer wrappers that a distiller has to hide behind its student."""

from __future__ import annotations

from typing import Any

from mmengine import registry as root
from mmengine.optim import DefaultOptimWrapperConstructor

from reviewkd_mm.config.built_parts import find_class
from reviewkd_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

STUDENT_CONSTRUCTOR = 'reviewkd_mm.StudentOptimWrapperConstructor'


def is_for_student(constructor: Any) -> bool:
    """Tell whether a constructor is to see the student of a distiller, not the distiller.

    MMEngine's default one looks for keys anywhere in a name, so that it finds those of the
    student in a distiller too. One that is registered in the scope ``reviewkd_mm`` knows of
    distillers. Any other may go by the names of a network that trains alone.

    Args:
        constructor (Any): What ``optim_wrapper.constructor`` is, looked up in the scope that is
            the default now.

    Returns:
        bool: Whether it is. False where there is no such constructor.
    """
    if constructor is None:
        return False
    found = find_class(constructor, root.OPTIM_WRAPPER_CONSTRUCTORS)
    if found in (None, DefaultOptimWrapperConstructor):
        return False
    return found not in OPTIM_WRAPPER_CONSTRUCTORS.module_dict.values()
