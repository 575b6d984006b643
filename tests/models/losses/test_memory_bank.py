"""MemoryBank: the contrast against explicit loops, the normaliser and what is remembered."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from reviewkd_mm.models.losses import memory_bank
from reviewkd_mm.models.losses.memory_bank import EPS, MemoryBank
from tests.models.losses.drawing import noise
from tests.numbers import assert_close64

CANDIDATES = torch.tensor([[3, 0, 5, 1], [6, 2, 0, 5]])


def bank(num_samples: int = 7, channels: int = 4, **kwargs) -> MemoryBank:
    torch.manual_seed(0)
    settings = dict(momentum=0.5, tau=0.2)
    return MemoryBank(num_samples, channels, **{**settings, **kwargs}).double()


def embeddings(count: int = 2, channels: int = 4, seed: int = 0) -> torch.Tensor:
    return F.normalize(noise(count, channels, seed=seed), dim=1)


def nce(x: np.ndarray, memory: np.ndarray, candidates: np.ndarray, tau: float, z: float) -> float:
    """Binary classification of each candidate: own or drawn from a uniform distribution."""
    total = 0.0
    count = candidates.shape[1] - 1
    noise_mass = count / len(memory)
    for row, chosen in zip(x, candidates, strict=True):
        for place, index in enumerate(chosen):
            score = math.exp(sum(a * b for a, b in zip(row, memory[index], strict=True)) / tau) / z
            own = score / (score + noise_mass + EPS)
            drawn = noise_mass / (score + noise_mass + EPS)
            total -= math.log(own if place == 0 else drawn)
    return total / len(x)


def first_normaliser(x: np.ndarray, memory: np.ndarray, candidates: np.ndarray, tau: float):
    scores = [
        math.exp(row @ memory[index] / tau)
        for row, chosen in zip(x, candidates, strict=True)
        for index in chosen
    ]
    return sum(scores) / len(scores) * len(memory)


def test_contrast_is_that_of_explicit_loops_and_keeps_the_first_normaliser():
    memory = bank()
    x, other = embeddings(), embeddings(seed=1)
    arrays = memory.vectors.numpy().copy(), CANDIDATES.numpy()
    z = first_normaliser(x.numpy(), *arrays, 0.2)

    first, second = memory.contrast(x, CANDIDATES), memory.contrast(other, CANDIDATES)

    assert first.item() == pytest.approx(nce(x.numpy(), *arrays, 0.2, z), rel=1e-10)
    assert second.item() == pytest.approx(nce(other.numpy(), *arrays, 0.2, z), rel=1e-10)
    assert memory.scale.item() == pytest.approx(z, rel=1e-12)


def test_the_normaliser_is_the_mean_of_all_processes(monkeypatch):
    alone, together = bank(), bank()
    alone.contrast(embeddings(), CANDIDATES)
    monkeypatch.setattr(memory_bank, 'all_gather', lambda x: [x, 5 * x])
    together.contrast(embeddings(), CANDIDATES)
    assert_close64(together.scale, 3 * alone.scale)


def test_outside_of_training_nothing_is_kept():
    memory = bank().eval()
    value = memory.contrast(embeddings(), CANDIDATES)
    assert value.isfinite()
    assert memory.scale == 0


def test_vectors_start_about_as_long_as_embeddings():
    vectors = bank(2000, 128).vectors
    assert vectors.abs().max() <= math.sqrt(3 / 128)
    assert vectors.square().sum(1).mean().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize('momentum', [0, 0.5, 1])
def test_update_by_hand(momentum):
    memory = bank(channels=2, momentum=momentum)
    memory.vectors[4] = torch.tensor([1.0, 0.0])
    kept = memory.vectors.clone()

    memory.update(torch.tensor([4]), torch.tensor([[0.0, 1.0]], dtype=torch.float64))

    length = math.hypot(momentum, 1 - momentum)
    assert memory.vectors[4].tolist() == pytest.approx(
        [momentum / length, (1 - momentum) / length]
    )
    others = [0, 1, 2, 3, 5, 6]
    assert torch.equal(memory.vectors[others], kept[others])


def test_the_gradient_is_that_of_what_was_remembered_then():
    memory, x = bank(), embeddings().requires_grad_()
    value = memory.contrast(x, CANDIDATES)
    expected = torch.autograd.grad(value, x, retain_graph=True)

    memory.update(torch.tensor([3, 6]), embeddings(seed=1))

    torch.testing.assert_close(torch.autograd.grad(value, x), expected, rtol=0, atol=0)


def test_gradcheck():
    memory = bank()
    memory.scale.fill_(9.0)
    assert gradcheck(lambda x: memory.contrast(x, CANDIDATES), embeddings().requires_grad_())
