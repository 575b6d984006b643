"""Compiling: the same numbers, and a fallback that says which setting it gives up."""

from __future__ import annotations

import copy
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from reviewkd_mm.models.connectors.attention_fusion import attention_fusion
from reviewkd_mm.models.distillers.compiled import Compiled
from reviewkd_mm.models.losses import HCLLoss
from tests.models.distillers.helpers import (
    STAGES,
    batch,
    build_distiller,
    logits,
    review,
    total,
)

TRANSFERS = dict(review=review(student=STAGES[:2], teacher=STAGES[:2]), kd=logits())
COMPILER = os.environ.get('CXX') or next(filter(shutil.which, ('g++', 'c++', 'clang++')), None)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """Collect what is logged."""
    said: list[str] = []
    monkeypatch.setattr(
        'reviewkd_mm.models.distillers.compiled.print_log',
        lambda text, **kwargs: said.append(text),
    )
    return said


def use_backend(monkeypatch, backend: str) -> list[Callable]:
    """Trace as torch.compile does, but generate no code; returns what was compiled."""
    compiled: list[Callable] = []
    real = torch.compile

    def compile_with_backend(function: Callable, **kwargs: Any) -> Callable:
        compiled.append(function)
        return real(function, **dict(kwargs, backend=backend))

    monkeypatch.setattr(torch, 'compile', compile_with_backend)
    return compiled


def fail(monkeypatch, error: Exception) -> list[tuple]:
    """Let the call of a compiled function fail; returns the arguments of such calls."""
    calls: list[tuple] = []

    def compile_badly(function: Callable, **kwargs: Any) -> Callable:
        def call(*args: Any) -> None:
            calls.append(args)
            raise error

        return call

    monkeypatch.setattr(torch, 'compile', compile_badly)
    return calls


def step(**kwargs) -> tuple[dict[str, Tensor], Tensor]:
    """Return the losses of a step and all gradients as one vector."""
    torch.manual_seed(0)
    distiller = build_distiller(transfers=copy.deepcopy(TRANSFERS), **kwargs)
    losses = distiller.loss(*batch())
    total(losses).backward()
    return losses, torch.cat([p.grad.flatten() for p in distiller.parameters()])


def assert_same_step(actual: tuple[dict, Tensor], expected: tuple[dict, Tensor]) -> None:
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-5, atol=0)
    assert (actual[1] - expected[1]).norm() < 1e-5 * expected[1].norm()


def test_what_is_compiled_is_called_with_the_arguments(monkeypatch, warnings):
    monkeypatch.setattr(torch, 'compile', lambda function: lambda *args: ('fast', *args))

    compiled = Compiled(lambda a, b: ('slow', a, b), 'name')

    assert [compiled(1, 2), compiled(3, 4)] == [('fast', 1, 2), ('fast', 3, 4)]
    assert not warnings


def test_where_compiling_fails_the_function_is_called_and_it_is_said_once(monkeypatch, warnings):
    calls = fail(monkeypatch, RuntimeError('no C++ compiler\nand a long trace'))
    compiled = Compiled(lambda a, b: a + b, 'teacher_compile: ResNet')

    results = [compiled(1, 2), compiled(3, 4)]

    assert results == [3, 7]
    assert calls == [(1, 2)]
    (text,) = warnings
    assert text.startswith('teacher_compile: ResNet is not compiled')
    assert text.endswith('RuntimeError: no C++ compiler')


def test_another_function_may_take_its_place(monkeypatch, warnings):
    fail(monkeypatch, RuntimeError('no'))

    compiled = Compiled(lambda a: 'function', 'name', eager=lambda a: f'eager {a}')

    assert [compiled(1), compiled(2)] == ['eager 1', 'eager 2']


@pytest.mark.parametrize('eager', [None, lambda a: 1 // a])
def test_an_error_of_the_function_is_its_own(monkeypatch, warnings, eager):
    def divide(a: int) -> int:
        return 1 // a

    # Dynamo wraps errors of the function into its own.
    def compile_wrapping(function: Callable) -> Callable:
        def call(*args: Any) -> Any:
            try:
                return ('compiled', function(*args))
            except ZeroDivisionError as error:
                raise RuntimeError('observed exception') from error

        return call

    monkeypatch.setattr(torch, 'compile', compile_wrapping)
    compiled = Compiled(divide, 'name', eager=eager)

    with pytest.raises(ZeroDivisionError):
        compiled(0)

    assert not warnings
    assert compiled(1) == ('compiled', 1)


def test_a_real_tracer_raises_the_functions_own_error(monkeypatch, warnings):
    use_backend(monkeypatch, 'eager')

    def refuse(x: Tensor) -> Tensor:
        if x.shape[0] != 2:
            raise ValueError(f'expected 2 rows, got {x.shape[0]}')
        return x * 2

    compiled = Compiled(refuse, 'name')

    with pytest.raises(ValueError, match=r'^expected 2 rows, got 3$'):
        compiled(torch.zeros(3))
    assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 2.0))
    assert not warnings


def test_keyboard_interrupts_pass(monkeypatch, warnings):
    fail(monkeypatch, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        Compiled(lambda: 0, 'name')()


def test_a_copy_shares_what_was_compiled(monkeypatch, warnings):
    monkeypatch.setattr(torch, 'compile', lambda function: lambda *args: 'fast')
    compiled = Compiled(lambda: 'slow', 'name')

    assert copy.deepcopy(compiled)() == 'fast'
    assert copy.deepcopy([compiled, compiled])[0]() == 'fast'


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_compiled_transfers_give_the_losses_and_gradients_of_the_plain_ones(
    monkeypatch, warnings, backend
):
    expected = step()
    compiled = use_backend(monkeypatch, backend)

    actual = step(transfers_compile=True)

    assert_same_step(actual, expected)
    assert len(compiled) == len(TRANSFERS)
    assert not warnings


@pytest.mark.parametrize('fold', [False, True])
def test_a_compiled_teacher_gives_the_losses_and_gradients_of_the_plain_one(
    monkeypatch, warnings, fold
):
    expected = step(teacher_fold_bn=fold)
    compiled = use_backend(monkeypatch, 'eager')

    actual = step(teacher_compile=True, teacher_fold_bn=fold)

    assert_same_step(actual, expected)
    assert len(compiled) == 1
    assert not warnings


def test_nothing_is_compiled_by_default(monkeypatch):
    compiled = use_backend(monkeypatch, 'eager')

    step()

    assert not compiled


@pytest.mark.parametrize(
    ('option', 'names'),
    [
        ('teacher_compile', ['teacher_compile: ImageClassifier']),
        ('transfers_compile', [f'transfers_compile: transfers.{name}' for name in TRANSFERS]),
    ],
)
def test_a_distiller_whose_parts_do_not_compile_trains_without(
    monkeypatch, warnings, option, names
):
    expected = step()
    fail(monkeypatch, RuntimeError('no C++ compiler'))

    actual = step(**{option: True})

    assert_same_step(actual, expected)
    assert [text.partition(' is not compiled')[0] for text in warnings] == names


def test_errors_of_a_compiled_transfer_name_the_config_key(monkeypatch, warnings):
    use_backend(monkeypatch, 'eager')
    distiller = build_distiller(transfers_compile=True)
    inputs, samples = batch(1)

    # BatchNorm at the neck's one pixel cannot train with one image.
    with pytest.raises(ValueError, match=r'^transfers\.review\.connector: ') as compiled:
        distiller.loss(inputs, samples)
    with pytest.raises(ValueError, match=r'^transfers\.review\.connector: ') as plain:
        build_distiller().loss(inputs, samples)

    assert str(compiled.value) == str(plain.value)
    assert not warnings


def test_a_copy_of_a_compiled_distiller_trains_its_own_connectors(monkeypatch, warnings):
    use_backend(monkeypatch, 'eager')
    torch.manual_seed(0)
    distiller = build_distiller(
        transfers=copy.deepcopy(TRANSFERS), transfers_compile=True, teacher_compile=True
    )
    distiller.loss(*batch())

    copied = copy.deepcopy(distiller)
    total(copied.loss(*batch())).backward()

    assert all(p.grad is not None for p in copied.parameters())
    assert all(p.grad is None for p in distiller.parameters())
    assert not warnings


@pytest.mark.skipif(COMPILER is None, reason='torch.compile needs a C++ compiler on a CPU')
def test_generated_code_of_fusion_and_loss(warnings):
    """Between them they have all that is not torch's own: the rest are its own modules."""
    loss = HCLLoss()

    def compare(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return loss([attention_fusion(x, residual, weight, bias)], [torch.zeros_like(x)])

    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    inputs = [draw(2, 4, 8, 8), draw(2, 4, 4, 4), draw(2, 8, 1, 1), draw(2)]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    compiled = Compiled(compare, 'transfers_compile')

    results = []
    for function in (compiled, compare):
        value = function(*inputs)
        results.append([value, *torch.autograd.grad(value, inputs)])

    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)
    assert not warnings
