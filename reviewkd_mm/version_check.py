"""Checks that what reviewkd_mm stands on is there, in a version that it supports."""

from __future__ import annotations

import re
import sys
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import NamedTuple

from reviewkd_mm.version import __version__

# The onedl packages are published for these. Keep in step with setup.py.
PYTHON_MINIMUM, PYTHON_BELOW = '3.10', '3.13'


class Requirement(NamedTuple):
    """A package that is needed, or that must fit when it is there.

    Args:
        module (str): The name that is imported.
        distributions (tuple[str, ...]): The names that pip may know it by.
        minimum (str): The oldest supported version.
        below (str | None): The first unsupported version above, None for no limit.
        install (str): The arguments of ``pip install`` that bring the tested one.
        optional (bool): Whether it may be missing. Defaults to False.
    """

    module: str
    distributions: tuple[str, ...]
    minimum: str
    below: str | None
    install: str
    optional: bool = False


# The reasons for the upper limits and for torch's are in requirements/runtime.txt and
# requirements/mminstall.txt. The lower limits take in OpenMMLab's own packages: of MMEngine its
# last release, the oldest that was tried; of the others their first major version on MMEngine.
REQUIREMENTS = (
    Requirement('torch', ('torch',), '2.6', None, 'torch==2.14.1 torchvision==0.29.1'),
    Requirement(
        'mmengine',
        ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
        '0.10.7',
        '1.0',
        'onedl-mmengine==0.10.12',
    ),
    Requirement(
        'mmcv',
        ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
        '2.0',
        '2.4',
        '--no-deps --no-cache-dir onedl-mmcv==2.3.6',
    ),
    Requirement(
        'mmdet',
        ('onedl-mmdetection', 'mmdet'),
        '3.0',
        '4.0',
        'onedl-mmdetection==3.5.1',
        optional=True,
    ),
    Requirement(
        'mmpretrain',
        ('onedl-mmpretrain', 'mmpretrain'),
        '1.0',
        '2.0',
        'onedl-mmpretrain==1.3.6',
        optional=True,
    ),
    Requirement(
        'mmseg',
        ('onedl-mmsegmentation', 'mmsegmentation'),
        '1.0',
        '2.0',
        'onedl-mmsegmentation==1.4.2',
        optional=True,
    ),
)


def release(version: str) -> tuple[int, ...]:
    """Return the numbers that a version starts with: ``'2.14.1+cu130'`` gives (2, 14, 1)."""
    numbers = re.match(r'\d+(\.\d+)*', version)
    return tuple(int(number) for number in numbers[0].split('.')) if numbers else ()


def is_supported(version: str, minimum: str, below: str | None) -> bool:
    """Return whether a version is at least ``minimum`` and older than ``below``."""
    if release(version) < release(minimum):
        return False
    return below is None or release(version) < release(below)


def limits(minimum: str, below: str | None) -> str:
    """Return the limits as pip writes them."""
    return f'>={minimum}' if below is None else f'>={minimum},<{below}'


def installed_version(requirement: Requirement) -> str | None:
    """Return the version that is installed, None where the package is missing."""
    for name in requirement.distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if find_spec(requirement.module) is None:
        return None
    # A source folder on PYTHONPATH, which pip does not know.
    return import_module(requirement.module).__version__


def check_python(version: str) -> None:
    """Raise for a Python that is not supported.

    Args:
        version (str): As in ``'3.11.7'``.

    Raises:
        ImportError: In one line: what was found and what is supported.
    """
    if is_supported(version, PYTHON_MINIMUM, PYTHON_BELOW):
        return
    supported = limits(PYTHON_MINIMUM, PYTHON_BELOW)
    raise ImportError(f'reviewkd_mm {__version__} needs Python {supported}, found {version}')


def check_package(requirement: Requirement, version: str | None) -> None:
    """Raise for a package that is missing or not supported.

    Args:
        requirement (Requirement): What is needed.
        version (str | None): What is installed.

    Raises:
        ImportError: In one line: what was found, what is supported and how to install it.
    """
    if version is None and requirement.optional:
        return
    minimum, below = requirement.minimum, requirement.below
    if version is not None and is_supported(version, minimum, below):
        return
    raise ImportError(
        f'reviewkd_mm {__version__} needs {requirement.module} {limits(minimum, below)}, found '
        f'{version or "none"}; to install it: pip install {requirement.install}'
    )


def how_to_install(module: str) -> str:
    """Return the end of a sentence that says of a package that it is not installed.

    Args:
        module (str): The name that is imported, as in ``'mmseg::...'``.

    Returns:
        str: ``'; to install it: pip install ...'``, empty for a package that is not known here.
    """
    commands = {requirement.module: requirement.install for requirement in REQUIREMENTS}
    return f'; to install it: pip install {commands[module]}' if module in commands else ''


def check_environment() -> None:
    """Raise for the first thing that is missing or not supported.

    Raises:
        ImportError: In one line: what was found and what is supported.
    """
    check_python('.'.join(map(str, sys.version_info[:3])))
    for requirement in REQUIREMENTS:
        check_package(requirement, installed_version(requirement))
