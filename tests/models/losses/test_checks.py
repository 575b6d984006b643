"""Checks and casts that the losses share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reviewkd_mm.models.losses.checks import check_loss_weight, check_pairs, full_precision


@pytest.mark.parametrize('weight', [0, 1, 0.6, np.float32(0.5)])
def test_weights_that_are_valid(weight):
    assert check_loss_weight(weight) == weight


@pytest.mark.parametrize('weight', [-1, -0.1, math.nan, math.inf, '1', None, [1.0]])
def test_weights_that_are_not(weight):
    with pytest.raises(ValueError, match=r'loss_weight=.*expected a finite number >= 0'):
        check_loss_weight(weight)


def test_pairs_of_one_shape_pass():
    check_pairs([torch.zeros(2, 3), torch.zeros(1)], [torch.ones(2, 3), torch.ones(1)])


def test_the_stage_that_differs_is_named():
    with pytest.raises(ValueError, match=r'stage 1: .*\(1,\).*\(2,\)'):
        check_pairs([torch.zeros(3), torch.zeros(1)], [torch.zeros(3), torch.zeros(2)])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    assert full_precision(torch.ones(2, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_other_precision_is_kept_without_a_copy(dtype):
    x = torch.ones(2, dtype=dtype)
    assert full_precision(x) is x
