"""Hints at near names, and a forked random state."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from reviewkd_mm.utils import did_you_mean, forked_rng


@pytest.mark.parametrize(
    ('name', 'choices', 'expected'),
    [
        ('nek', ['backbone', 'neck'], "did you mean 'neck'?"),
        ('conv', ['conv1', 'conv2', 'bn'], "did you mean 'conv2', 'conv1'?"),
        ('neck', ['neck', 'neck'], "did you mean 'neck'?"),
        ('xyz', ['backbone', 'neck'], "choose from 'backbone', 'neck'"),
        ('xyz', [], 'there is nothing to choose from'),
        ('nek', iter(['neck']), "did you mean 'neck'?"),
        ('Sgd', ['SGD', 'Muon'], "did you mean 'SGD'?"),
    ],
)
def test_did_you_mean(name, choices, expected):
    assert did_you_mean(name, choices) == expected


def test_did_you_mean_gives_a_few_names_of_many():
    names = [f'layer{i}' for i in range(40)]
    assert did_you_mean('layer', names, limit=2).count('layer') == 2
    hint = did_you_mean('xyz', names)
    assert hint.endswith("'layer11' … (40 in all)")


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_forked_rng_draws_the_same_from_the_same_seed():
    with forked_rng(0):
        first = draw()
    with forked_rng(0):
        assert draw() == first
    with forked_rng(1):
        assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.parametrize('fails', [False, True])
def test_forked_rng_leaves_the_random_state_as_it_was(fails):
    def seed_everything() -> None:
        random.seed(3)
        np.random.seed(3)
        torch.manual_seed(3)

    seed_everything()
    expected = draw()
    seed_everything()
    try:
        with forked_rng(0):
            draw()
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert draw() == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')
def test_forked_rng_leaves_the_random_state_of_cuda_as_it_was():
    torch.cuda.manual_seed_all(3)
    expected = torch.rand(4, device='cuda')
    torch.cuda.manual_seed_all(3)
    with forked_rng(0):
        torch.rand(4, device='cuda')
    assert torch.equal(torch.rand(4, device='cuda'), expected)
