"""The random state survives a checkpoint."""

from __future__ import annotations

import random

import numpy as np
import torch

from reviewkd_mm.engine.hooks.random_states import random_state, set_random_state


def draw() -> list[float]:
    # A second normal of Python's and NumPy's is kept from the first draw.
    pairs = [random.gauss(0, 1), np.random.normal(), random.random(), np.random.random()]
    return [*pairs, float(torch.rand(())), float(torch.randn(()))]


def test_the_next_numbers_are_drawn_again(tmp_path):
    draw()
    torch.save(random_state(), tmp_path / 'state.pth')
    expected = draw() + draw()

    set_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))

    assert draw() + draw() == expected
