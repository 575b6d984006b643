"""Compiling: the same numbers, or the error of what fails."""

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


def use_backend(monkeypatch, backend: str | Callable) -> list[Callable]:
    """Trace as torch.compile does, but generate no code; returns what was compiled."""
    compiled: list[Callable] = []
    real = torch.compile

    def compile_with_backend(function: Callable, **kwargs: Any) -> Callable:
        compiled.append(function)
        return real(function, **dict(kwargs, backend=backend))

    monkeypatch.setattr(torch, 'compile', compile_with_backend)
    return compiled


def step(**kwargs) -> tuple[dict[str, Tensor], Tensor]:
    """Return the losses of a step in float64 and all gradients as one vector."""
    torch.manual_seed(0)
    distiller = build_distiller(
        **dict(dict(transfers=copy.deepcopy(TRANSFERS)), **kwargs)
    ).double()
    inputs, samples = batch()
    losses = distiller.loss(inputs.double(), samples)
    total(losses).backward()
    return losses, torch.cat([p.grad.flatten() for p in distiller.parameters()])


def assert_same_step(actual: tuple[dict, Tensor], expected: tuple[dict, Tensor]) -> None:
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-10, atol=0)
    assert (actual[1] - expected[1]).norm() < 1e-10 * expected[1].norm()


@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
def test_compiled_transfers_give_the_losses_and_gradients_of_the_plain_ones(monkeypatch, backend):
    expected = step()
    compiled = use_backend(monkeypatch, backend)

    actual = step(transfers_compile=True)

    assert_same_step(actual, expected)
    assert len(compiled) == len(TRANSFERS)


def test_a_compiled_teacher_gives_the_losses_and_gradients_of_the_plain_one(monkeypatch):
    expected = step()
    compiled = use_backend(monkeypatch, 'eager')

    actual = step(teacher_options=dict(compile=True))

    assert_same_step(actual, expected)
    assert len(compiled) == 1


def test_a_compiled_teacher_gives_all_calls_of_a_module(monkeypatch):
    tap = dict(type='ModuleOutputs', source='backbone.layer1.-1.relu', call='all')
    transfers = dict(review=review(student=tap, teacher=tap))
    expected = step(transfers=transfers)
    use_backend(monkeypatch, 'eager')

    actual = step(transfers=transfers, teacher_options=dict(compile=True))

    assert_same_step(actual, expected)


def test_nothing_is_compiled_by_default(monkeypatch):
    compiled = use_backend(monkeypatch, 'eager')

    step()

    assert not compiled


@pytest.mark.parametrize(
    'options', [dict(teacher_options=dict(compile=True)), dict(transfers_compile=True)], ids=str
)
def test_what_fails_to_compile_fails_with_its_error(monkeypatch, options):
    def backend(graph: Any, inputs: Any) -> None:
        raise OSError('no C++ compiler')

    use_backend(monkeypatch, backend)

    with pytest.raises(Exception, match=r'no C\+\+ compiler'):
        step(**options)


def test_a_copy_of_a_compiled_distiller_trains_its_own_connectors(monkeypatch):
    use_backend(monkeypatch, 'eager')
    torch.manual_seed(0)
    distiller = build_distiller(
        transfers=copy.deepcopy(TRANSFERS),
        transfers_compile=True,
        teacher_options=dict(compile=True),
    )
    distiller.loss(*batch())

    copied = copy.deepcopy(distiller)
    total(copied.loss(*batch())).backward()

    assert all(p.grad is not None for p in copied.parameters())
    assert all(p.grad is None for p in distiller.parameters())


@pytest.mark.skipif(COMPILER is None, reason='torch.compile needs a C++ compiler on a CPU')
def test_generated_code_of_fusion_and_loss():
    """Between them they have all that is not torch's own: the rest are its own modules."""
    loss = HCLLoss()

    def compare(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return loss([attention_fusion(x, residual, weight, bias)], [torch.zeros_like(x)])

    draw = functools.partial(
        torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    inputs = [draw(2, 4, 8, 8), draw(2, 4, 4, 4), draw(2, 8, 1, 1), draw(2)]
    inputs = [tensor.requires_grad_() for tensor in inputs]

    results = []
    # A cache would give code that was made for other vectors than ATEN_CPU_CAPABILITY has now.
    with torch._inductor.config.patch(force_disable_caches=True):
        for function in (torch.compile(compare), compare):
            value = function(*inputs)
            results.append([value, *torch.autograd.grad(value, inputs)])

    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)
