"""DISTLoss: values of NumPy's correlations, invariances, precision and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from reviewkd_mm.models.losses import DISTLoss
from reviewkd_mm.registry import MODELS
from tests.models.losses.drawing import noise, samples
from tests.numbers import assert_close64, assert_within_rounding


def probabilities(count: int = 6, classes: int = 5, seed: int = 0) -> Tensor:
    return noise(count, classes, seed=seed).softmax(dim=1)


def one_minus_correlation(x: np.ndarray, y: np.ndarray) -> float:
    return 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)])


def test_smoke():
    loss = MODELS.build({'type': 'reviewkd_mm.DISTLoss'})
    assert isinstance(loss, DISTLoss)
    assert (loss.beta, loss.gamma, loss.tau) == (2, 2, 4)
    value = loss([noise(4, 5, 1, 1)], [noise(4, 5, 1, 1, seed=1)])
    assert value.shape == ()
    assert value > 0


@pytest.mark.parametrize('tau', [1, 4])
@pytest.mark.parametrize('factors', [(2, 3), (1, 0), (0, 1)])
def test_value_is_that_of_numpys_correlations(tau, factors):
    student, teacher = 3 * noise(6, 5), 3 * noise(6, 5, seed=1)
    s, t = ((x / tau).softmax(dim=1).numpy() for x in (student, teacher))
    inter, intra = one_minus_correlation(s, t), one_minus_correlation(s.T, t.T)
    expected = tau**2 * (factors[0] * inter + factors[1] * intra)
    value = DISTLoss(*factors, tau, loss_weight=0.5)(student, teacher)
    assert value.item() == pytest.approx(0.5 * expected, rel=1e-10)


def test_predictions_that_are_affine_in_the_teachers_give_zero():
    """Each prediction drawn to the uniform one by the same factor: the order stays."""
    teacher = probabilities()
    student = 0.3 * teacher + 0.7 / 5
    value = DISTLoss(tau=1)(student.log(), teacher.log())
    assert value.item() == pytest.approx(0, abs=1e-12)


def test_the_opposite_order_gives_the_most():
    teacher = (0.3 * noise(6, 5)).softmax(dim=1)
    student = 2 / 5 - teacher  # Sums to 1.
    assert (student > 0).all()
    value = DISTLoss(1, 1, tau=1)(student.log(), teacher.log())
    assert value.item() == pytest.approx(4, rel=1e-12)


def test_two_images_by_hand():
    """Of two numbers there is none but a correlation of 1 or -1: here all of the classes' are 1,
    and of the images' two classes one each way.
    """
    teacher = torch.tensor([[0.1, 0.9], [0.4, 0.6]], dtype=torch.float64)
    student = torch.tensor([[0.6, 0.4], [0.8, 0.2]], dtype=torch.float64)
    inter, intra = 2, 0
    value = DISTLoss(3, 5, tau=1)(student.log(), teacher.log())
    assert value.item() == pytest.approx(3 * inter + 5 * intra, abs=1e-12)


def test_invariances():
    loss, student, teacher = DISTLoss(), noise(4, 5), noise(4, 5, seed=1)
    value = loss(student, teacher)
    assert loss(student, student).item() == pytest.approx(0, abs=1e-12)
    assert_close64(loss(student + 7, teacher - 3), value)
    assert_close64(loss(student.flip(0), teacher.flip(0)), value)
    assert_close64(loss(student.flip(1), teacher.flip(1)), value)


def test_one_image_has_no_relation_within_a_class():
    student = noise(1, 5).requires_grad_()
    value = DISTLoss(0, 1, tau=1)(student, noise(1, 5, seed=1))
    value.backward()
    assert value == 1
    assert not student.grad.any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_large_logits_stay_finite(dtype):
    student = (1e4 * noise(4, 5)).to(dtype).requires_grad_()
    teacher = (1e4 * noise(4, 5, seed=1)).to(dtype)
    value = DISTLoss()(student, teacher)
    value.backward()
    assert value.dtype == torch.float32
    plain, exact = (
        DISTLoss()(student.detach().to(wide), teacher.to(wide))
        for wide in (torch.float32, torch.float64)
    )
    assert_within_rounding(value, plain, exact)
    assert student.grad.isfinite().all()


def test_gradcheck():
    student, teacher = noise(4, 5).requires_grad_(), noise(4, 5, seed=1)
    assert gradcheck(lambda s: DISTLoss(2, 3, tau=2.0)(s, teacher), student)


@pytest.mark.parametrize('key', ['beta', 'gamma', 'tau', 'loss_weight'])
def test_wrong_settings_are_refused(key):
    with pytest.raises(ValueError, match=f'{key}=-1'):
        DISTLoss(**{key: -1})


def test_what_does_not_pair_up_is_refused():
    with pytest.raises(ValueError, match=r'\(4, 5\).*\(4, 6\)'):
        DISTLoss()(noise(4, 5), noise(4, 6))


def test_predictions_that_no_softmax_makes_are_refused():
    with pytest.raises(ValueError, match='2 classes or more, got 1'):
        DISTLoss()(noise(4, 1), noise(4, 1, seed=1))
    with pytest.raises(ValueError, match=r'an image has 2 labels'):
        DISTLoss()(noise(1, 5), noise(1, 5, seed=1), samples([[0, 1]]))


def test_repr_says_the_settings():
    assert repr(DISTLoss()) == 'DISTLoss(beta=2.0, gamma=2.0, tau=4.0, loss_weight=1.0)'
