"""One vector an image, from all layouts that taps give."""

from __future__ import annotations

import pytest
import torch

from reviewkd_mm.models.losses.vectors import one_vector
from tests.models.losses.drawing import noise


def test_layouts():
    x = noise(3, 4)
    for given in (x, [x], (x,), x[:, :, None, None], [x[:, :, None, None]]):
        assert torch.equal(one_vector('student logits', given), x)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    assert one_vector('student logits', noise(3, 4, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize('shape', [(5,), (2, 3, 4), (2, 3, 4, 4), (2, 3, 1, 2)])
def test_what_is_no_vector_is_refused(shape):
    with pytest.raises(ValueError, match=r'expected student logits of shape \(N, C\)'):
        one_vector('student logits', torch.zeros(shape))


@pytest.mark.parametrize('count', [0, 2])
def test_lists_have_one(count):
    with pytest.raises(ValueError, match=f'expected one teacher features tensor, got {count}'):
        one_vector('teacher features', [torch.zeros(2, 3)] * count)
