"""The distiller under DistributedDataParallel, in two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.distillers.helpers import (
    assert_same_state,
    batch,
    build_distiller,
    review,
    total,
)

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = 180  # seconds; an idle machine needs 10


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> list[dict]:
    """What each of two processes saved after two steps on a batch of its own."""
    folder = tmp_path_factory.mktemp('ddp')
    command = [sys.executable, '-m', 'tests.models.distillers.ddp_worker', str(folder)]
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


def test_synchronised_batchnorm_is_for_the_student_and_the_connectors():
    taps = dict(student='backbone.bn1', teacher='backbone.bn1')
    distiller = build_distiller(transfers=dict(review=review(**taps)))
    distiller.loss(*batch())
    before = distiller.transfers.review.student_recorder.taps[0]._module

    converted = nn.SyncBatchNorm.convert_sync_batchnorm(distiller)
    total(converted.loss(*batch())).backward()

    assert type(converted.student.backbone.bn1) is nn.SyncBatchNorm
    assert converted.student.backbone.bn1 is not before
    assert type(converted.transfers.review.connector.abfs[0].conv1.bn) is nn.SyncBatchNorm
    assert type(converted.teacher.backbone.bn1) is nn.BatchNorm2d
    assert all(p.grad is not None for p in converted.parameters())
