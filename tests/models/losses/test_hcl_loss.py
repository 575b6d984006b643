"""HCLLoss: values by hand and by the equation, invariances and errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from reviewkd_mm.models.losses import HCLLoss
from reviewkd_mm.registry import MODELS
from tests.models.losses.drawing import noise
from tests.models.losses.textbook import hcl
from tests.numbers import assert_close64


def one_hot(height: int, width: int) -> Tensor:
    x = torch.zeros(1, 1, height, width, dtype=torch.float64)
    x[0, 0, 0, 0] = 1
    return x


def test_smoke():
    loss = MODELS.build({'type': 'reviewkd_mm.HCLLoss'})
    assert isinstance(loss, HCLLoss)
    value = loss([noise(2, 3, 8, 8)], [noise(2, 3, 8, 8, seed=1)])
    assert value.shape == ()
    assert value > 0


@pytest.mark.parametrize('size', [(1, 1), (2, 2), (4, 4), (5, 5), (8, 8), (2, 8), (8, 2)])
def test_constant_difference(size):
    """Pooling keeps a constant, so the weighted mean of equal terms is that term."""
    student, teacher = (torch.full((2, 3, *size), x, dtype=torch.float64) for x in (5, 2))
    assert HCLLoss()([student], [teacher]).item() == pytest.approx(9, rel=1e-12)


# A single 1 in the corner. Its mean square at full size, then those of its pooled maps with
# their weights, over the sum of the weights.
BY_HAND = {
    (1, 1): 1,
    (2, 2): (1 / 4 + (1 / 2) / 16) / 1.5,
    (4, 4): (1 / 16 + (1 / 2) / 64 + (1 / 4) / 256) / 1.75,
    # 5 to 4: windows of 2x2 that overlap; 5 to 2: windows of 3x3 that overlap.
    (5, 5): (1 / 25 + (1 / 2) / 256 + (1 / 4) / 324 + (1 / 8) / 625) / 1.875,
    (8, 8): (1 / 64 + (1 / 2) / 256 + (1 / 4) / 1024 + (1 / 8) / 4096) / 1.875,
    # The height alone decides: 4 and 2 are left out at height 2, none is at width 2.
    (2, 8): (1 / 16 + (1 / 2) / 256) / 1.5,
    (8, 2): (1 / 16 + (1 / 2) / 32 + (1 / 4) / 64 + (1 / 8) / 256) / 1.875,
    # No level is smaller than a height of 1, however wide the map.
    (1, 8): 1 / 8,
    # At height 3 levels 2 and 1 are used, at width 1 too: its column is repeated.
    (3, 1): (1 / 3 + (1 / 2) / 8 + (1 / 4) / 9) / 1.75,
}


@pytest.mark.parametrize('size', BY_HAND)
def test_one_hot_by_hand(size):
    x = one_hot(*size)
    assert HCLLoss()([x], [torch.zeros_like(x)]).item() == pytest.approx(BY_HAND[size], rel=1e-12)


@pytest.mark.parametrize(
    'size',
    [(1, 1), (1, 6), (2, 1), (2, 3), (3, 1), (3, 7), (5, 5), (6, 4), (13, 9), (16, 16)],
)
@pytest.mark.parametrize('levels', [(4, 2, 1), (8, 3), ()])
def test_value_and_gradient_are_those_of_the_equation(size, levels):
    student = noise(2, 3, *size).requires_grad_()
    teacher = noise(2, 3, *size, seed=1)
    value, expected = (
        HCLLoss(levels=levels)([student], [teacher]),
        hcl([student], [teacher], levels),
    )
    assert_close64(value, expected)
    (grad,), (expected_grad,) = (torch.autograd.grad(v, student) for v in (value, expected))
    assert_close64(grad, expected_grad)


def test_stages_are_summed_and_weighted():
    student = [noise(2, 3, size, size) for size in (8, 4, 1)]
    teacher = [noise(2, 3, size, size, seed=1) for size in (8, 4, 1)]
    stages = [HCLLoss()([s], [t]) for s, t in zip(student, teacher, strict=True)]
    assert_close64(HCLLoss(2.5)(student, teacher), 2.5 * sum(stages))


def test_the_weight_is_halved_only_for_a_level_that_is_used():
    student, teacher = [noise(2, 3, 4, 4)], [noise(2, 3, 4, 4, seed=1)]
    assert HCLLoss()(student, teacher) == HCLLoss(levels=(2, 1))(student, teacher)


def test_weight_of_zero_keeps_the_graph():
    student = noise(2, 3, 4, 4).requires_grad_()
    value = HCLLoss(0)([student], [noise(2, 3, 4, 4, seed=1)])
    value.backward()
    assert value == 0
    assert not student.grad.any()


def test_invariances():
    loss, s, t = HCLLoss(), noise(3, 4, 6, 5), noise(3, 4, 6, 5, seed=1)
    value = loss([s], [t])
    assert loss([s], [s]) == 0
    assert_close64(loss([t], [s]), value)
    assert_close64(loss([s + 7], [t + 7]), value)
    assert_close64(loss([3 * s], [3 * t]), 9 * value)
    assert_close64(loss([s.flip(0)], [t.flip(0)]), value)
    assert_close64(loss([s.flip(1)], [t.flip(1)]), value)
    assert_close64(loss([s.flip(2, 3)], [t.flip(2, 3)]), value)
    channels_last = s.to(memory_format=torch.channels_last)
    assert_close64(loss([channels_last], [t]), value)


@pytest.mark.parametrize('size', [(1, 1), (5, 3), (4, 4)])
def test_gradcheck(size):
    student = noise(2, 2, *size).requires_grad_()
    teacher = noise(2, 2, *size, seed=1).requires_grad_()
    assert gradcheck(lambda s, t: HCLLoss(0.6)([s, 2 * s], [t, t]), (student, teacher))


@pytest.mark.parametrize('levels', [(4, 0), (4, 2.0), (-1,), ('4',), '421', 4, None])
def test_wrong_levels_are_refused(levels):
    with pytest.raises(ValueError, match=r'levels=.*expected positive integers'):
        HCLLoss(levels=levels)


def test_wrong_weight_is_refused():
    with pytest.raises(ValueError, match='loss_weight=-1'):
        HCLLoss(loss_weight=-1)


def test_features_that_do_not_pair_up_are_refused():
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match='got 2 and 1'):
        HCLLoss()([x, x], [x])
    with pytest.raises(ValueError, match='at least one'):
        HCLLoss()([], [])
    with pytest.raises(ValueError, match=r'stage 1: .*\(2, 3, 4, 4\).*\(2, 3, 4, 2\)'):
        HCLLoss()([x, x], [x, x[..., :2]])


@pytest.mark.parametrize('shape', [(2, 3), (2, 3, 4), (3, 2, 4, 4, 4)])
def test_what_is_no_feature_map_is_refused(shape):
    with pytest.raises(ValueError, match='expected features'):
        HCLLoss()([torch.zeros(shape)], [torch.zeros(shape)])


def test_repr_says_the_settings():
    assert repr(HCLLoss(0.6)) == 'HCLLoss(loss_weight=0.6, levels=(4, 2, 1))'
