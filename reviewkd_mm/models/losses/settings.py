"""Checks of the settings of losses."""

from __future__ import annotations

import math
from numbers import Real

from reviewkd_mm.errors import ConfigError


def check_positive(name: str, value: float) -> float:
    """Return a setting if it is a finite number greater than 0.

    Args:
        name (str): The config key.
        value (float): The setting, for example a temperature.

    Returns:
        float: The setting.

    Raises:
        ValueError: If it is anything else.
    """
    if not _is_number(value) or not 0 < value < math.inf:
        raise ConfigError(f'{name}={value!r}: expected a finite number greater than 0')
    return value


def check_factor(name: str, value: float) -> float:
    """Return the factor of one term of a loss if it is a finite number that is not negative.

    Args:
        name (str): The config key.
        value (float): The factor.

    Returns:
        float: The factor.

    Raises:
        ValueError: If it is anything else.
    """
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ConfigError(f'{name}={value!r}: expected a finite number >= 0')
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
