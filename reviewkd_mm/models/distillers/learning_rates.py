"""Learning rates that go by the names of a network that trains alone."""

from __future__ import annotations

from mmengine.config import Config
from mmengine.logging import MessageHub

from reviewkd_mm.config.constructors import STUDENT_CONSTRUCTOR, is_for_student
from reviewkd_mm.config.parts import is_distiller
from reviewkd_mm.errors import ConfigError


def check_constructor() -> None:
    """Check that the running training's optimizer was not made from a distiller's names.

    The config is read from MMEngine's MessageHub, where a Runner writes it before it initialises
    the model, after it has built the optimizer.

    Raises:
        ConfigError: If its constructor goes by a student's names, and was given the distiller.
    """
    text = MessageHub.get_current_instance().get_info('cfg')
    if not text or 'constructor' not in text:
        return
    cfg = Config.fromstring(text, '.py')
    constructor = (cfg.get('optim_wrapper') or {}).get('constructor')
    if is_distiller(cfg.get('model') or {}) and is_for_student(constructor):
        raise ConfigError(
            f'optim_wrapper.constructor={constructor!r} goes by the names of the student, such as '
            f"'backbone', and was given the distiller: write constructor='{STUDENT_CONSTRUCTOR}' "
            f'and student_constructor={constructor!r}, as tools/train.py does'
        )
