"""SimilarityLoss: values by hand, invariances, precision and errors."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from reviewkd_mm.models.losses import SimilarityLoss
from reviewkd_mm.registry import MODELS
from tests.models.losses.drawing import noise
from tests.numbers import assert_close64, assert_within_rounding


def one_hot(count: int) -> torch.Tensor:
    """Features of images of which no two have anything in common."""
    return torch.eye(count, dtype=torch.float64).view(count, count, 1, 1)


def test_smoke():
    loss = MODELS.build({'type': 'reviewkd_mm.SimilarityLoss'})
    assert isinstance(loss, SimilarityLoss)
    value = loss([noise(4, 3, 8, 8)], [noise(4, 5, 4, 4, seed=1)])
    assert value.shape == ()
    assert value > 0


@pytest.mark.parametrize('count', [2, 3, 5])
def test_images_all_different_against_images_all_alike(count):
    """Rows (1, 0, ..., 0) against rows of 1/sqrt(n): (1 - 1/sqrt(n))^2 and n - 1 times 1/n."""
    alike = torch.full((count, 3, 2, 2), 5.0, dtype=torch.float64)
    row = (1 - count**-0.5) ** 2 + (count - 1) / count
    value = SimilarityLoss(3000)([one_hot(count)], [alike])
    assert value.item() == pytest.approx(3000 * count * row / count**2, rel=1e-12)


def test_orthogonal_features_match_in_any_channels_and_of_any_length():
    teacher = 7 * one_hot(4).flip(1).view(4, 1, 2, 2)
    assert SimilarityLoss()([one_hot(4)], [teacher]) == 0


def test_stages_are_summed_and_weighted():
    student = [noise(3, 3, size, size) for size in (8, 4)]
    teacher = [noise(3, 3, size, size, seed=1) for size in (8, 4)]
    stages = [SimilarityLoss()([s], [t]) for s, t in zip(student, teacher, strict=True)]
    assert_close64(SimilarityLoss(2.5)(student, teacher), 2.5 * sum(stages))


def test_invariances():
    loss, s, t = SimilarityLoss(), noise(4, 3, 6, 5), noise(4, 2, 3, 7, seed=1)
    value = loss([s], [t])
    assert loss([s], [s]) == 0
    assert_close64(loss([7 * s], [-3 * t]), value)
    assert_close64(loss([s.flip(0)], [t.flip(0)]), value)
    assert_close64(loss([s.flip(1, 2)], [t.flip(3)]), value)
    assert_close64(loss([s.to(memory_format=torch.channels_last)], [t]), value)
    rotated = torch.linalg.qr(noise(3, 3, seed=2)).Q @ s.flatten(2)
    assert_close64(loss([rotated.view_as(s)], [t]), value)


def test_one_image_gives_zero():
    assert SimilarityLoss()([noise(1, 3, 2, 2)], [noise(1, 3, 2, 2, seed=1)]) == 0


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_large_features_in_half_precision(dtype, autocast):
    student = (6e4 * noise(3, 3, 8, 8).clamp(-1, 1)).to(dtype).requires_grad_()
    teacher = (6e4 * noise(3, 3, 8, 8, seed=1).clamp(-1, 1)).to(dtype)
    with torch.autocast('cpu', dtype=dtype, enabled=autocast):
        value = SimilarityLoss()([student], [teacher])
    value.backward()
    assert value.dtype == torch.float32
    plain, exact = (
        SimilarityLoss()([student.detach().to(wide)], [teacher.to(wide)])
        for wide in (torch.float32, torch.float64)
    )
    assert_within_rounding(value, plain, exact)
    assert student.grad.isfinite().all()


def test_gradcheck():
    student, teacher = noise(3, 2, 2, 2).requires_grad_(), noise(3, 3, 1, 2, seed=1)
    assert gradcheck(lambda s: SimilarityLoss(0.6)([s, s**2], [teacher] * 2), student)


def test_wrong_weight_is_refused():
    with pytest.raises(ValueError, match='loss_weight=-1'):
        SimilarityLoss(-1)


def test_batches_that_differ_are_refused():
    with pytest.raises(ValueError, match=r'stage 0.*same N'):
        SimilarityLoss()([torch.zeros(2, 3, 4, 4)], [torch.zeros(3, 3, 4, 4)])


def test_repr_says_the_settings():
    assert repr(SimilarityLoss(3.0)) == 'SimilarityLoss(loss_weight=3.0)'
