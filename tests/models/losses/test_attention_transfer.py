"""AttentionTransferLoss: values by hand, sizes, invariances, precision and errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from reviewkd_mm.models.losses import AttentionTransferLoss
from reviewkd_mm.registry import MODELS
from tests.models.losses.drawing import noise
from tests.numbers import assert_close64, assert_within_rounding


def test_smoke():
    loss = MODELS.build({'type': 'reviewkd_mm.AttentionTransferLoss'})
    assert isinstance(loss, AttentionTransferLoss)
    value = loss([noise(2, 3, 8, 8)], [noise(2, 5, 8, 8, seed=1)])
    assert value.shape == ()
    assert value > 0


@pytest.mark.parametrize(('p', 'strong'), [(2, 16), (1, 4)])
def test_value_by_hand(p, strong):
    """Maps (1, 1) and (3^p or 4^p, the other 0): of length 1 (r, r) and (1, 0), r^2 = 1/2."""
    student = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2).repeat(2, 3, 1, 1).double()
    teacher = torch.tensor([-4.0, 0.0]).view(1, 1, 1, 2).repeat(2, 2, 1, 1).double()
    assert teacher.abs().pow(p).max() == strong
    r = 0.5**0.5
    value = AttentionTransferLoss(1000, p)([student], [teacher])
    assert value.item() == pytest.approx(1000 * ((1 - r) ** 2 + r**2) / 2, rel=1e-12)


def test_channels_are_averaged_after_the_power():
    """Energies (9 + 1) / 2 and (1 + 1) / 2, so 5 : 1, are those of one channel sqrt(5) : 1."""
    student = torch.tensor([[3.0, 1.0], [-1.0, 1.0]]).view(1, 2, 1, 2).double()
    teacher = torch.tensor([5.0**0.5, 1.0]).view(1, 1, 1, 2).double()
    assert AttentionTransferLoss()([student], [teacher]).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ('large', 'small'), [((8, 8), (4, 4)), ((6, 9), (3, 3)), ((4, 6), (4, 3)), ((4, 6), (2, 12))]
)
def test_the_larger_feature_is_averaged_to_the_smaller(large, small):
    few, many = noise(2, 3, *small), noise(2, 4, *large, seed=1)
    pooled = F.adaptive_avg_pool2d(many, small)
    loss = AttentionTransferLoss()
    expected = loss([few], [pooled])
    assert_close64(loss([few], [many]), expected)
    assert_close64(loss([many], [few]), expected)


def test_invariances():
    loss, s, t = AttentionTransferLoss(), noise(3, 4, 6, 5), noise(3, 2, 6, 5, seed=1)
    value = loss([s], [t])
    assert loss([s], [s]) == 0
    assert_close64(loss([7 * s], [-3 * t]), value)
    assert_close64(loss([s.flip(1)], [t.repeat(1, 3, 1, 1)]), value)
    assert_close64(loss([s.flip(2, 3)], [t.flip(2, 3)]), value)
    assert_close64(loss([s.to(memory_format=torch.channels_last)], [t]), value)


def test_stages_are_summed_and_weighted():
    student = [noise(2, 3, size, size) for size in (8, 4)]
    teacher = [noise(2, 3, size, size, seed=1) for size in (8, 4)]
    stages = [AttentionTransferLoss()([s], [t]) for s, t in zip(student, teacher, strict=True)]
    assert_close64(AttentionTransferLoss(2.5)(student, teacher), 2.5 * sum(stages))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_large_features_in_half_precision(dtype):
    student = (6e4 * noise(2, 3, 8, 8).clamp(-1, 1)).to(dtype).requires_grad_()
    teacher = (6e4 * noise(2, 3, 8, 8, seed=1).clamp(-1, 1)).to(dtype)
    value = AttentionTransferLoss()([student], [teacher])
    value.backward()
    assert value.dtype == torch.float32
    plain, exact = (
        AttentionTransferLoss()([student.detach().to(wide)], [teacher.to(wide)])
        for wide in (torch.float32, torch.float64)
    )
    assert_within_rounding(value, plain, exact)
    assert student.grad.isfinite().all()


def test_a_dead_feature_gives_finite_gradients():
    student = torch.zeros(2, 3, 4, 4, requires_grad=True)
    AttentionTransferLoss()([student], [noise(2, 3, 4, 4).float()]).backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('p', [2, 3])
@pytest.mark.parametrize('size', [(3, 2), (2, 2)])
def test_gradcheck(size, p):
    student = noise(2, 2, 3, 2).requires_grad_()
    teacher = noise(2, 3, *size, seed=1)
    assert gradcheck(lambda s: AttentionTransferLoss(0.6, p)([s, 2 * s], [teacher] * 2), student)


@pytest.mark.parametrize('kwargs', [dict(p=0), dict(loss_weight=-1)])
def test_wrong_settings_are_refused(kwargs):
    with pytest.raises(ValueError, match=f'{next(iter(kwargs))}='):
        AttentionTransferLoss(**kwargs)


def test_features_that_do_not_pair_up_are_refused():
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match='got 2 and 1'):
        AttentionTransferLoss()([x, x], [x])


def test_repr_says_the_settings():
    assert repr(AttentionTransferLoss(3.0)) == 'AttentionTransferLoss(loss_weight=3.0, p=2)'
