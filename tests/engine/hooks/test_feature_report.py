"""What is said of features that a loss could not be made of."""

from __future__ import annotations

import math

import pytest
import torch

from reviewkd_mm.engine.hooks.feature_report import summarise


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_numbers_are_those_of_the_finite_values(dtype):
    value = torch.tensor([[-2.0, math.nan], [4.0, math.inf], [1.0, -math.inf]], dtype=dtype)

    assert summarise(value) == 'min -2, max 4, mean 1, 3 of 6 not finite'


def test_a_mean_does_not_overflow_in_half_precision():
    value = torch.full((4096,), 60000.0, dtype=torch.float16)

    assert 'mean 6e+04, 0 of 4096 not finite' in summarise(value)


def test_without_a_finite_value_there_is_only_a_count():
    assert summarise(torch.full((2, 3), math.nan)) == '6 of 6 not finite'
