"""Checks of settings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reviewkd_mm.models.losses.settings import check_factor, check_positive


@pytest.mark.parametrize('value', [1, 0.07, np.float32(4)])
def test_numbers_that_are_valid(value):
    assert check_positive('tau', value) == value
    assert check_factor('alpha', value) == value


def test_a_factor_may_be_zero_and_a_temperature_may_not():
    assert check_factor('alpha', 0) == 0
    with pytest.raises(ValueError, match=r'tau=0: expected a finite number greater than 0'):
        check_positive('tau', 0)


@pytest.mark.parametrize('value', [-1, math.nan, math.inf, '4', None, [1.0]])
def test_numbers_that_are_not(value):
    with pytest.raises(ValueError, match=r'tau=.*greater than 0'):
        check_positive('tau', value)
    with pytest.raises(ValueError, match=r'alpha=.*>= 0'):
        check_factor('alpha', value)
