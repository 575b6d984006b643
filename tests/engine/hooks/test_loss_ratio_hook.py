"""The log says how great a transfer's loss is beside the task's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from tests.models.distillers.helpers import (
    NO_VALIDATION,
    classifier,
    distiller_cfg,
    logits,
    review,
    train,
)

RATIO = dict(
    custom_hooks=[dict(type='reviewkd_mm.LossRatioHook')],
    default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None),
    **NO_VALIDATION,
)

# A quotient or a sum of logged numbers is rounded once or twice.
ROUNDED = 4 * torch.finfo(torch.float32).eps


def logged(runner: Runner) -> list[dict]:
    file = next(Path(runner.work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_ratio_is_that_of_the_logged_losses(tmp_path):
    transfers = dict(review=review(), kd=logits())
    runner = train(distiller_cfg(transfers=transfers, task_loss_weight=0.5), tmp_path, **RATIO)

    lines = logged(runner)
    assert len(lines) == 4
    for line in lines:
        for name in transfers:
            expected = line[f'loss_{name}'] / line['loss_cls']
            assert line[f'ratio_{name}'] == pytest.approx(expected, rel=ROUNDED)
        parts = (line['loss_cls'], line['loss_review'], line['loss_kd'])
        assert line['loss'] == pytest.approx(sum(parts), rel=ROUNDED), 'the ratio is no loss'


def test_without_a_task_loss_there_is_no_ratio(tmp_path):
    runner = train(distiller_cfg(task_loss_weight=0), tmp_path, **RATIO)

    assert all('ratio_review' not in line and 'loss_review' in line for line in logged(runner))


def test_a_training_without_a_distiller_has_none(tmp_path):
    runner = train(classifier(), tmp_path, **RATIO)

    assert not any(key.startswith('ratio') for line in logged(runner) for key in line)
