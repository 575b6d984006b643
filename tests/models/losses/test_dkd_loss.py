"""DKDLoss: against its definition and the identity of the paper, precision and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from reviewkd_mm.models.losses import DKDLoss, KLDivergence
from reviewkd_mm.registry import MODELS
from tests.models.losses.drawing import noise, samples
from tests.numbers import assert_close64, assert_within_rounding

LABELS = [0, 3, 1, 4]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def terms(student: np.ndarray, teacher: np.ndarray, label: int, tau: float) -> tuple[float, ...]:
    """Return TCKD, NCKD and the teacher's probability of the true class, for one image."""
    s, t = softmax(student / tau), softmax(teacher / tau)
    others = [c for c in range(len(s)) if c != label]
    rest_s, rest_t = sum(s[others]), sum(t[others])
    tckd = t[label] * math.log(t[label] / s[label]) + rest_t * math.log(rest_t / rest_s)
    nckd = sum(t[c] / rest_t * math.log((t[c] / rest_t) / (s[c] / rest_s)) for c in others)
    return tckd, nckd, t[label]


def test_smoke():
    loss = MODELS.build({'type': 'reviewkd_mm.DKDLoss'})
    assert isinstance(loss, DKDLoss)
    assert (loss.alpha, loss.beta, loss.tau) == (1, 8, 4)
    value = loss([noise(4, 5, 1, 1)], [noise(4, 5, 1, 1, seed=1)], samples(LABELS))
    assert value.shape == ()
    assert value > 0


@pytest.mark.parametrize('tau', [0.5, 1, 4])
@pytest.mark.parametrize('classes', [2, 5])
def test_value_is_that_of_the_definition(tau, classes):
    student, teacher = 3 * noise(4, classes), 3 * noise(4, classes, seed=1)
    labels = [label % classes for label in LABELS]
    rows = zip(student.numpy(), teacher.numpy(), labels, strict=True)
    parts = [terms(s, t, label, tau) for s, t, label in rows]
    expected = tau**2 * sum(1.5 * tckd + 8 * nckd for tckd, nckd, _ in parts) / 4

    value = DKDLoss(1.5, 8, tau, loss_weight=0.5)(student, teacher, samples(labels))

    assert value.item() == pytest.approx(0.5 * expected, rel=1e-10)


def test_logit_distillation_is_tckd_and_the_rest_of_nckd():
    student, teacher = 3 * noise(1, 5), 3 * noise(1, 5, seed=1)
    given = samples([2])
    tckd, nckd = (DKDLoss(*ab)(student, teacher, given) for ab in ((1, 0), (0, 1)))
    p = (teacher / 4).softmax(dim=1)[0, 2]
    assert_close64(tckd + (1 - p) * nckd, KLDivergence()(student, teacher))


def test_invariances():
    loss, student, teacher = DKDLoss(), noise(4, 5), noise(4, 5, seed=1)
    value = loss(student, teacher, samples(LABELS))
    assert_close64(loss(student + 7, teacher - 3, samples(LABELS)), value)
    flipped = samples([4 - label for label in LABELS])
    assert_close64(loss(student.flip(1), teacher.flip(1), flipped), value)
    assert_close64(loss(student.flip(0), teacher.flip(0), samples(LABELS[::-1])), value)
    assert loss(student, student, samples(LABELS)) == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_large_logits_stay_finite(dtype):
    """A teacher that is sure of a class leaves nothing of the others in plain probabilities."""
    student = (1e4 * noise(4, 5)).to(dtype).requires_grad_()
    teacher = (1e4 * noise(4, 5, seed=1)).to(dtype)
    value = DKDLoss()(student, teacher, samples(LABELS))
    value.backward()
    assert value.dtype == torch.float32
    plain, exact = (
        DKDLoss()(student.detach().to(wide), teacher.to(wide), samples(LABELS))
        for wide in (torch.float32, torch.float64)
    )
    assert_within_rounding(value, plain, exact)
    assert student.grad.isfinite().all()


def test_gradcheck():
    student, teacher = noise(4, 5).requires_grad_(), noise(4, 5, seed=1)
    loss = DKDLoss(1, 8, tau=2.0)
    assert gradcheck(lambda s: loss(s, teacher, samples(LABELS)), student)


def test_labels_are_needed():
    with pytest.raises(ValueError, match='a data sample of each of 4 images, got none'):
        DKDLoss()(noise(4, 5), noise(4, 5))


@pytest.mark.parametrize('key', ['alpha', 'beta', 'tau', 'loss_weight'])
def test_wrong_settings_are_refused(key):
    with pytest.raises(ValueError, match=f'{key}=-1'):
        DKDLoss(**{key: -1})


def test_what_does_not_pair_up_is_refused():
    with pytest.raises(ValueError, match=r'\(4, 5\).*\(4, 6\)'):
        DKDLoss()(noise(4, 5), noise(4, 6), samples(LABELS))
    with pytest.raises(ValueError, match='2 classes or more, got 1'):
        DKDLoss()(noise(4, 1), noise(4, 1), samples([0] * 4))


def test_repr_says_the_settings():
    assert repr(DKDLoss()) == 'DKDLoss(alpha=1.0, beta=8.0, tau=4.0, loss_weight=1.0)'
