"""Stages whose shapes may differ, but not in everything."""

from __future__ import annotations

import pytest
import torch

from reviewkd_mm.models.losses.stages import check_stages


def test_channels_and_sizes_may_differ():
    check_stages([torch.zeros(2, 3, 4, 4)] * 2, [torch.zeros(2, 5, 8, 8)] * 2)


def test_numbers_of_stages_may_not():
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match='got 2 and 1'):
        check_stages([x, x], [x])
    with pytest.raises(ValueError, match='at least one'):
        check_stages([], [])


@pytest.mark.parametrize('shape', [(3, 3, 4, 4), (2, 3), (2, 3, 4)])
def test_images_may_not_and_features_are_maps(shape):
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r'stage 1: .*expected \(N, C, H, W\) of the same N'):
        check_stages([x, x], [x, torch.zeros(shape)])
