"""OFDLoss: the partial distance case by case, the margins of normal responses, and errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from reviewkd_mm.models.losses import OFDLoss
from reviewkd_mm.registry import MODELS
from tests.models.losses.drawing import noise
from tests.numbers import assert_close64, assert_within_rounding


def row(*values: float) -> Tensor:
    """One image, one channel, a row of pixels."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def test_smoke():
    loss = MODELS.build({'type': 'reviewkd_mm.OFDLoss'})
    assert isinstance(loss, OFDLoss)
    value = loss([noise(2, 3, 8, 8)], [noise(2, 3, 8, 8, seed=1)])
    assert value.shape == ()
    assert value > 0


# The teacher's row is (2, -1, -3): the margin is -2.
@pytest.mark.parametrize(
    ('student', 'expected'),
    [
        ((2, -1, -2), 0),
        # Positive: the student is drawn from both sides.
        ((5, -1, -2), 9),
        ((0, -1, -2), 4),
        # Negative, but above the margin: only from above, to the teacher's value.
        ((2, 1, -2), 4),
        ((2, -7, -2), 0),
        # Below the margin: only from above, to the margin.
        ((2, -1, 1), 9),
        ((2, -1, -2.5), 0),
        ((2, -1, -9), 0),
    ],
)
def test_partial_distance_by_hand(student, expected):
    value = OFDLoss()([row(*student)], [row(2, -1, -3)])
    assert value.item() == pytest.approx(expected, abs=1e-12)


def test_margins_are_those_of_each_channel_over_the_batch():
    """Channel 0 has negative responses -1 and -3 in two images, channel 1 has -5, channel 2 none.

    Of a student that is 0 everywhere the distances are those to max(response, margin).
    """
    teacher = torch.tensor([[[-1.0], [-5.0], [1.0]], [[-3.0], [2.0], [4.0]]], dtype=torch.float64)
    teacher = teacher[..., None]
    distances = 1 + 5**2 + 1 + 2**2 + 2**2 + 4**2
    value = OFDLoss()([torch.zeros_like(teacher)], [teacher])
    assert value.item() == pytest.approx(distances / 2, rel=1e-12)


@pytest.mark.parametrize('bias', [-1.0, 0.0, 0.7])
@pytest.mark.parametrize('weight', [0.5, -2.0])
def test_margins_of_a_batch_norm_are_the_closed_form_of_the_authors(weight, bias):
    """The mean of N(bias, |weight|) below 0: bias - |weight| phi(bias / |weight|) / Phi(...)."""
    norm = nn.BatchNorm2d(1).double()
    nn.init.constant_(norm.weight, weight)
    nn.init.constant_(norm.bias, bias)
    teacher = norm(noise(64, 1, 64, 64)).detach()
    ratio = bias / abs(weight)
    density = math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    below = math.erfc(ratio / math.sqrt(2)) / 2
    margin = bias - abs(weight) * density / below

    # The student is the teacher where that is positive and far below it elsewhere, which costs
    # nothing; but 0 at the lowest pixel, which costs the square of the margin.
    student = teacher.where(teacher > 0, -100)
    student.view(-1)[teacher.argmin()] = 0
    value = 64 * OFDLoss()([student], [teacher])

    assert math.sqrt(value.item()) == pytest.approx(-margin, rel=0.01)


def test_shallower_stages_count_half_each():
    student = [noise(2, 3, size, size) for size in (8, 4, 2)]
    teacher = [noise(2, 3, size, size, seed=1) for size in (8, 4, 2)]
    a, b, c = (OFDLoss()([s], [t]) for s, t in zip(student, teacher, strict=True))
    assert_close64(OFDLoss(1e-3)(student, teacher), 1e-3 * (a / 4 + b / 2 + c))


def test_pixels_are_summed_and_images_averaged():
    s, t = noise(2, 3, 4, 4), noise(2, 3, 4, 4, seed=1)
    value = OFDLoss()([s], [t])
    assert_close64(OFDLoss()([s.repeat(3, 1, 1, 1)], [t.repeat(3, 1, 1, 1)]), value)
    assert_close64(OFDLoss()([s.repeat(1, 1, 2, 1)], [t.repeat(1, 1, 2, 1)]), 2 * value)
    assert_close64(OFDLoss()([3 * s], [3 * t]), 9 * value)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_large_features_in_half_precision(dtype):
    student = (6e4 * noise(2, 3, 8, 8).clamp(-1, 1)).to(dtype).requires_grad_()
    teacher = (6e4 * noise(2, 3, 8, 8, seed=1).clamp(-1, 1)).to(dtype)
    value = OFDLoss(1e-3)([student], [teacher])
    value.backward()
    assert value.dtype == torch.float32
    plain, exact = (
        OFDLoss(1e-3)([student.detach().to(wide)], [teacher.to(wide)])
        for wide in (torch.float32, torch.float64)
    )
    assert_within_rounding(value, plain, exact)


def test_gradcheck():
    student, teacher = noise(2, 2, 3, 2).requires_grad_(), noise(2, 2, 3, 2, seed=1)
    assert gradcheck(lambda s: OFDLoss(0.6)([s, 2 * s], [teacher] * 2), student)


def test_wrong_weight_is_refused():
    with pytest.raises(ValueError, match='loss_weight=-1'):
        OFDLoss(-1)


def test_features_that_do_not_pair_up_are_refused():
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r'stage 0: .*a connector must map'):
        OFDLoss()([x], [x[:, :2]])
    with pytest.raises(ValueError, match='expected'):
        OFDLoss()([x[:, :, 0]], [x[:, :, 0]])


def test_repr_says_the_settings():
    assert repr(OFDLoss(3.0)) == 'OFDLoss(loss_weight=3.0)'
