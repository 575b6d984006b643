"""The distiller under DistributedDataParallel, in two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.integration.ddp_worker import ACCUMULATIVE_COUNTS, group_norm_distiller
from tests.models.distillers.helpers import (
    assert_same_state,
    batch,
    build_distiller,
    review,
    total,
)
from tests.numbers import assert_close64

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 600  # seconds; an idle machine needs 15


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> list[dict]:
    """What each of two processes saved after two steps on a batch of its own."""
    folder = tmp_path_factory.mktemp('ddp')
    command = [sys.executable, '-m', 'tests.integration.ddp_worker', str(folder)]
    env = dict(os.environ, OMP_NUM_THREADS='1')
    subprocess.run(command, cwd=ROOT, env=env, timeout=TIMEOUT, check=True)
    return [torch.load(folder / f'rank{rank}.pth') for rank in (0, 1)]


def test_gradients_are_averaged(ranks):
    assert all(gradient is not None for gradient in ranks[0]['gradients'].values())
    assert_same_state(ranks[0]['gradients'], ranks[1]['gradients'])
    assert_same_state(ranks[0]['weights'], ranks[1]['weights'])
    assert ranks[0]['losses']['loss_review'] != ranks[1]['losses']['loss_review']


def test_teacher_is_not_synchronised_and_yet_the_same(ranks):
    assert {name.split('.')[1] for name in ranks[0]['names']} <= {
        'student',
        'transfers',
        'data_preprocessor',
    }
    assert_same_state(ranks[0]['teacher'], ranks[1]['teacher'])


@pytest.mark.parametrize('counts', ACCUMULATIVE_COUNTS)
def test_two_processes_equal_one_on_the_whole_batch(ranks, counts):
    accumulated = [rank['accumulated'][counts] for rank in ranks]
    distiller = group_norm_distiller()
    distiller.load_state_dict(accumulated[0]['start'])
    inputs, samples = zip(*(batch(seed=seed) for seed in range(2 * counts)), strict=True)

    losses = distiller.loss(torch.cat(inputs).double(), list(chain(*samples)))
    total(losses).backward()

    assert losses['loss_review'] > 0
    for name, loss in losses.items():
        parts = [step[name] for rank in accumulated for step in rank['losses']]
        assert_close64(torch.stack(parts).mean(), loss)
    expected = {name: p.grad for name, p in distiller.named_parameters()}
    for rank in accumulated:
        assert_close64(rank['gradients'], expected)


@pytest.mark.parametrize('counts', ACCUMULATIVE_COUNTS)
def test_gradients_of_what_trains_are_sent_once_an_update(ranks, counts):
    numbers = sum(p.numel() for p in group_norm_distiller().parameters())

    for rank in ranks:
        assert rank['accumulated'][counts]['sent'] == [0] * (counts - 1) + [numbers]


def test_synchronised_batchnorm_trains_on_no_cpu(ranks):
    """torch has no such code for two processes on a CPU; what it says is passed on."""
    for rank in ranks:
        error = rank['sync_bn']['error']
        assert error.startswith('transfers.review: ')
        assert 'SyncBatchNorm expected input tensor' in error
        assert rank['sync_bn']['loss'] > 0, 'in eval mode nothing is synchronised'


def test_synchronised_batchnorm_is_for_the_student_and_the_connectors():
    taps = dict(student='backbone.bn1', teacher='backbone.bn1')
    distiller = build_distiller(transfers=dict(review=review(**taps)))
    distiller.loss(*batch())
    before = distiller.student.backbone.bn1

    converted = nn.SyncBatchNorm.convert_sync_batchnorm(distiller)
    total(converted.loss(*batch())).backward()

    assert type(converted.student.backbone.bn1) is nn.SyncBatchNorm
    assert converted.student.backbone.bn1 is not before
    assert type(converted.transfers.review.connector.abfs[0].conv1.bn) is nn.SyncBatchNorm
    assert type(converted.teacher.backbone.bn1) is nn.BatchNorm2d
    assert all(p.grad is not None for p in converted.parameters())
