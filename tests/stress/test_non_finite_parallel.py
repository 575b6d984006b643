"""A loss that is not finite on one of two ranks: both stop, or both skip the step."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.hooks.non_finite_worker import BAD_ITERATION, BAD_RANK, ITERATIONS
from tests.models.distillers.helpers import assert_same_state

pytestmark = pytest.mark.stress

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300  # seconds; an idle machine needs 20


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp('ddp')
    command = [sys.executable, '-m', 'tests.engine.hooks.non_finite_worker', str(folder)]
    env = dict(os.environ, OMP_NUM_THREADS='1')
    subprocess.run(command, cwd=ROOT, env=env, timeout=TIMEOUT, check=True)
    return [torch.load(folder / f'rank{rank}.pth') for rank in (0, 1)]


def test_both_stop_with_the_message_of_the_bad_one(ranks):
    errors = [rank['stop']['error'] for rank in ranks]

    assert errors[0] == errors[1]
    assert errors[0].startswith(
        f'rank {BAD_RANK}: transfers.review: the loss is nan in iteration {BAD_ITERATION}'
    )
    assert f'rank {1 - BAD_RANK}' not in errors[0]
    assert [rank['stop']['iterations'] for rank in ranks] == [BAD_ITERATION - 1] * 2
    weights = [rank['stop']['weights'] for rank in ranks]
    assert_same_state(weights[0], weights[1])
    assert all(torch.isfinite(weight).all() for weight in weights[0].values())


def test_both_skip_the_step(ranks):
    assert [rank['skip']['error'] for rank in ranks] == ['', '']
    assert [rank['skip']['iterations'] for rank in ranks] == [ITERATIONS] * 2
    assert [rank['skip']['skipped'] for rank in ranks] == [1, 1]
    weights = [rank['skip']['weights'] for rank in ranks]
    assert_same_state(weights[0], weights[1])
    assert all(torch.isfinite(weight).all() for weight in weights[0].values())
