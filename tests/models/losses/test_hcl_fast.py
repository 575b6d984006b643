"""HCL in one pass: levels pooled from levels are those pooled from the full map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reviewkd_mm.models.losses import HCLLoss
from tests.models.losses.drawing import noise
from tests.models.losses.textbook import hcl
from tests.numbers import assert_close64, assert_within_rounding

LEVELS = [
    (4, 2, 1),
    (8, 4, 2, 1),
    (3, 2),
    (4, 1),
    (6, 3, 1),
    (5, 4, 2),
    (1, 2, 4),
    (4, 4, 2),
    (2,),
]
SIZES = [(6, 6), (7, 7), (8, 8), (12, 5), (5, 12), (16, 8), (9, 3), (24, 24), (10, 10)]
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def pair(*size: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Draw a student and a teacher feature that both want a gradient."""
    return [noise(2, 3, *size, seed=seed, dtype=dtype).requires_grad_() for seed in (0, 1)]


@pytest.mark.parametrize('levels', LEVELS)
@pytest.mark.parametrize('size', SIZES)
def test_value_and_both_gradients_are_those_of_pooling_the_full_map(levels, size):
    student, teacher = pair(*size)
    value, expected = (
        HCLLoss(levels=levels)([student], [teacher]),
        hcl([student], [teacher], levels),
    )

    actual = [value, *torch.autograd.grad(3 * value, (student, teacher))]
    expected = [expected, *torch.autograd.grad(3 * expected, (student, teacher))]

    assert_close64(actual, expected, tolerance=1e-12)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('size', [(8, 8), (7, 5)])
def test_memory_formats(memory_format, size):
    student, teacher = pair(*size)
    expected = torch.autograd.grad(HCLLoss()([student], [teacher]), (student, teacher))
    other = student.detach().contiguous(memory_format=memory_format).requires_grad_()

    actual = torch.autograd.grad(HCLLoss()([other], [teacher]), (other, teacher))

    assert actual[0].is_contiguous(memory_format=memory_format)
    assert_close64(actual, expected)


def value_and_gradients(
    loss: Callable, student: Tensor, teacher: Tensor, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Run a loss in a given dtype, else in that of the features; gradients have theirs."""
    features = [x.detach().requires_grad_() for x in (student, teacher)]
    value = loss(*([x if dtype is None else x.to(dtype)] for x in features))
    return [value, *torch.autograd.grad(value, features)]


@pytest.mark.parametrize(
    ('of_student', 'of_teacher'),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float16, torch.float32),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_half_precision_is_computed_in_single_and_each_gradient_has_its_features_dtype(
    of_student, of_teacher
):
    features = noise(2, 3, 8, 8).to(of_student), noise(2, 3, 8, 8, seed=1).to(of_teacher)
    wide = torch.promote_types(torch.promote_types(of_student, of_teacher), torch.float32)

    value, *gradients = value_and_gradients(HCLLoss(), *features)

    assert value.dtype == wide
    assert [g.dtype for g in gradients] == [of_student, of_teacher]
    plain, *plain_gradients = value_and_gradients(hcl, *features, wide)
    exact, *exact_gradients = value_and_gradients(hcl, *(x.double() for x in features))
    assert_within_rounding(value, plain, exact)
    for triple in zip(gradients, plain_gradients, exact_gradients, strict=True):
        assert_within_rounding(*triple)


@pytest.mark.parametrize(
    ('of_student', 'of_teacher'),
    [
        (torch.float16, torch.float16),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
)
@pytest.mark.parametrize('size', [(1, 1), (7, 5), (16, 16)])
def test_features_of_60000_do_not_overflow_fp16(size, of_student, of_teacher):
    student = (6e4 * noise(2, 3, *size).sign()).to(of_student)
    teacher = (-6e4 * noise(2, 3, *size).sign()).to(of_teacher)

    value, *gradients = value_and_gradients(HCLLoss(), student, teacher)

    plain, exact = (
        hcl([student.to(wide)], [teacher.to(wide)]) for wide in (torch.float32, torch.float64)
    )
    assert_within_rounding(value, plain, exact)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize('autocast', [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(autocast):
    student, teacher = pair(8, 6, dtype=torch.float32)
    expected = HCLLoss()([student], [teacher])

    with torch.autocast('cpu', dtype=autocast):
        value = HCLLoss()([student], [teacher])

    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    gradients = [torch.autograd.grad(loss, (student, teacher)) for loss in (value, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('size', [(8, 8), (7, 5), (1, 1)])
def test_a_second_backward_gives_the_same_and_nothing_is_overwritten(size, dtype):
    student, teacher = pair(*size, dtype=dtype)
    copies = [x.detach().clone() for x in (student, teacher)]
    value = HCLLoss()([student], [teacher])

    first = torch.autograd.grad(value, (student, teacher), retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    second = torch.autograd.grad(value, (student, teacher))

    torch.testing.assert_close([*first, *second], [*kept, *kept], rtol=0, atol=0)
    assert torch.equal(student, copies[0])
    assert torch.equal(teacher, copies[1])


def test_a_teacher_without_a_gradient_gets_none():
    student, teacher = pair(8, 8)

    HCLLoss()([student], [teacher.detach()]).backward()

    assert student.grad is not None
    assert teacher.grad is None


class Pools(TorchDispatchMode):
    """Note what is pooled from which size, and how often maps are subtracted."""

    def __init__(self) -> None:
        super().__init__()
        self.pooled: list[tuple[int, int]] = []
        self.subtracted = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.sub, torch.ops.aten.sub_):
            self.subtracted += 1
        is_map = isinstance(result, Tensor) and result.dim() == 4
        if is_map and result.shape[-2:].numel() < args[0].shape[-2:].numel():
            self.pooled.append(tuple(args[0].shape[-2:]))
        return result


@pytest.mark.parametrize(
    ('size', 'levels', 'sources'),
    [
        ((8, 8), (4, 2, 1), [(8, 8), (4, 4), (2, 2)]),
        ((16, 8), (4, 2, 1), [(16, 8), (4, 4), (2, 2)]),
        # 2 tiles neither 7 nor, evenly, a level of 4 that overlapped.
        ((7, 7), (4, 2, 1), [(7, 7)] * 3),
        # 4 does not divide 6, but 2 does.
        ((6, 6), (4, 2, 1), [(6, 6), (6, 6), (2, 2)]),
        ((9, 9), (3, 2), [(9, 9)] * 2),
    ],
)
def test_the_full_map_is_read_no_more_often_than_it_must(size, levels, sources):
    student, teacher = pair(*size)

    with Pools() as pools:
        HCLLoss(levels=levels)([student], [teacher])

    assert pools.pooled == sources
    assert pools.subtracted == 1
