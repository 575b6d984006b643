"""KLDivergence: values by hand and of torch, layouts, precision, invariances and errors."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from reviewkd_mm.models.losses import KLDivergence
from reviewkd_mm.registry import MODELS
from tests.models.losses.drawing import samples
from tests.numbers import assert_close64, assert_within_rounding


def logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_smoke():
    loss = MODELS.build({'type': 'reviewkd_mm.KLDivergence'})
    assert isinstance(loss, KLDivergence)
    assert (loss.tau, loss.loss_weight) == (4.0, 1.0)
    value = loss(logits(2, 5), logits(2, 5, seed=1))
    assert value.shape == ()
    assert value > 0


@pytest.mark.parametrize('tau', [1, 4.0])
@pytest.mark.parametrize('batch', [1, 3])
def test_value_by_hand(tau, batch):
    """Softened, the student says 1/2, 1/2 and the teacher 1/4, 3/4, in every row."""
    student = torch.zeros(batch, 2, dtype=torch.float64)
    teacher = torch.tensor([[0, tau * math.log(3)]], dtype=torch.float64).expand(batch, 2)
    divergence = 1 / 4 * math.log(1 / 2) + 3 / 4 * math.log(3 / 2)
    value = KLDivergence(tau, loss_weight=0.9)(student, teacher)
    assert value.item() == pytest.approx(0.9 * tau**2 * divergence, rel=1e-12)


@pytest.mark.parametrize('tau', [0.5, 1, 4])
def test_value_and_gradient_are_those_of_torch_and_of_calculus(tau):
    student, teacher = logits(6, 10).requires_grad_(), logits(6, 10, seed=1)
    value = KLDivergence(tau)(student, teacher)
    target = F.softmax(teacher / tau, dim=1)
    expected = F.kl_div(F.log_softmax(student / tau, dim=1), target, reduction='batchmean')
    assert_close64(value, tau**2 * expected)
    value.backward()
    difference = F.softmax(student.detach() / tau, dim=1) - target
    assert_close64(student.grad, tau * difference / 6)


def test_layouts():
    loss, student, teacher = KLDivergence(), logits(4, 5), logits(4, 5, seed=1)
    value = loss(student, teacher)
    assert loss([student], (teacher,)) == value
    assert loss(student[:, :, None, None], teacher[:, :, None, None]) == value
    assert loss([student[:, :, None, None]], teacher) == value


def test_invariances():
    loss, student, teacher = KLDivergence(), logits(4, 5), logits(4, 5, seed=1)
    value = loss(student, teacher)
    assert loss(student, student) == 0
    assert_close64(loss(student + 7, teacher - 3), value)
    assert_close64(loss(student.flip(0), teacher.flip(0)), value)
    assert_close64(loss(student.flip(1), teacher.flip(1)), value)
    assert_close64(loss(student.repeat(3, 1), teacher.repeat(3, 1)), value)
    assert not torch.isclose(loss(teacher, student), value)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_and_large_logits(dtype):
    student, teacher = (1e4 * logits(4, 5, seed=seed).sign() for seed in (0, 1))
    student, teacher = student.to(dtype), teacher.to(dtype)
    value = KLDivergence()(student, teacher)
    assert value.dtype == torch.float32
    plain, exact = (
        KLDivergence()(student.to(wide), teacher.to(wide))
        for wide in (torch.float32, torch.float64)
    )
    assert_within_rounding(value, plain, exact)


def test_weight_of_zero_keeps_the_graph():
    student = logits(2, 5).requires_grad_()
    KLDivergence(loss_weight=0)(student, logits(2, 5, seed=1)).backward()
    assert not student.grad.any()


def test_gradcheck():
    student, teacher = logits(3, 4).requires_grad_(), logits(3, 4, seed=1).requires_grad_()
    assert gradcheck(KLDivergence(tau=2.0, loss_weight=0.5), (student, teacher))


@pytest.mark.parametrize('tau', [0, -1.0, math.nan, math.inf, '4', None])
def test_wrong_temperature_is_refused(tau):
    with pytest.raises(ValueError, match='tau='):
        KLDivergence(tau=tau)


def test_wrong_weight_is_refused():
    with pytest.raises(ValueError, match='loss_weight=-1'):
        KLDivergence(loss_weight=-1)


@pytest.mark.parametrize('shape', [(5,), (2, 3, 4), (2, 3, 4, 4), (2, 3, 1, 2)])
def test_what_is_no_logits_is_refused(shape):
    with pytest.raises(ValueError, match=r'student logits of shape \(N, C\)'):
        KLDivergence()(torch.zeros(shape), torch.zeros(2, 3))


def test_logits_that_do_not_pair_up_are_refused():
    with pytest.raises(ValueError, match='one teacher logits tensor, got 2'):
        KLDivergence()(torch.zeros(2, 3), [torch.zeros(2, 3)] * 2)
    with pytest.raises(ValueError, match=r'\(2, 3\).*\(2, 4\)'):
        KLDivergence()(torch.zeros(2, 3), torch.zeros(2, 4))


def test_repr_says_the_settings():
    expected = 'KLDivergence(tau=2.0, loss_weight=1.0, use_sigmoid=False)'
    assert repr(KLDivergence(2.0)) == expected


@pytest.mark.parametrize('tau', [0.5, 1, 4])
def test_the_sigmoid_of_a_logit_is_the_softmax_of_it_and_zero(tau):
    student, teacher = logits(6, 3), logits(6, 3, seed=1)
    expected = 0
    for column in range(3):
        pairs = (F.pad(x[:, [column]], (1, 0)) for x in (student, teacher))
        expected = expected + KLDivergence(tau)(*pairs)
    assert_close64(KLDivergence(tau, use_sigmoid=True)(student, teacher), expected)


def test_the_gradient_of_the_sigmoid_form_is_that_of_calculus():
    student, teacher = logits(6, 3).requires_grad_(), logits(6, 3, seed=1)
    KLDivergence(2.0, use_sigmoid=True)(student, teacher).backward()
    difference = (student.detach() / 2).sigmoid() - (teacher / 2).sigmoid()
    assert_close64(student.grad, 2 * difference / 6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_the_sigmoid_form_of_large_logits(dtype):
    student, teacher = (1e4 * logits(4, 5, seed=seed).sign() for seed in (0, 1))
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)
    loss = KLDivergence(use_sigmoid=True)
    value = loss(student, teacher)
    value.backward()
    plain, exact = (
        loss(student.detach().to(wide), teacher.to(wide))
        for wide in (torch.float32, torch.float64)
    )
    assert_within_rounding(value, plain, exact)
    assert student.grad.isfinite().all()


def test_a_shift_of_all_logits_costs_the_sigmoid_form_something():
    student = logits(4, 5)
    assert KLDivergence(use_sigmoid=True)(student, student) == 0
    assert KLDivergence(use_sigmoid=True)(student, student + 5) > 1


def test_one_logit_has_no_softmax_but_a_sigmoid():
    one = torch.zeros(4, 1)
    assert KLDivergence(use_sigmoid=True)(one, one + 2) > 0
    with pytest.raises(ValueError, match=r'2 classes or more, got 1: .*use_sigmoid=True'):
        KLDivergence()(one, one + 2)


def test_several_labels_an_image_need_the_sigmoid_form():
    student, teacher = logits(2, 3), logits(2, 3, seed=1)
    given = samples([[0, 2], [1]])
    with pytest.raises(ValueError, match=r'2 labels, .*use_sigmoid=True'):
        KLDivergence()(student, teacher, given)
    assert KLDivergence(use_sigmoid=True)(student, teacher, given) > 0


def test_a_wrong_kind_is_refused():
    with pytest.raises(ValueError, match="use_sigmoid='yes': expected True or False"):
        KLDivergence(use_sigmoid='yes')
