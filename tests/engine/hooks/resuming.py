"""A training with everything that a resume has to carry on, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, METRICS
from mmengine.runner import Runner
from torch import Tensor

from tests.models.distillers.helpers import (
    NUM_CLASSES,
    PIXELS,
    classifier,
    distiller_cfg,
    review,
    train,
)

# Times differ from run to run.
TIMES = ('time', 'data_time')


class Stopped(Exception):  # noqa: N818  it is no error
    """A training was stopped."""


@HOOKS.register_module(force=True)
class StopAt(Hook):
    """Stop the training where ``stage`` begins with two epochs done."""

    priority = 'VERY_HIGH'

    def __init__(self, stage: str) -> None:
        setattr(self, stage, self._stop)

    def _stop(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if runner.epoch == 2:
            raise Stopped


@METRICS.register_module(force=True)
class Confidence(BaseMetric):
    """The mean probability of the true class, which no two states of a model share."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        self.results += [float(s['pred_score'][s['gt_label']]) for s in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return dict(confidence=sum(results) / len(results))


def options(workers: int = 0, hooks: Sequence[dict] = (), **kwargs: Any) -> dict[str, Any]:
    """Settings of a training of four epochs."""
    loader = dict(
        batch_size=4,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='reviewkd_mm.TinyImages', length=12),
    )
    pictures = dict(type='reviewkd_mm.TinyImages', length=40, flip=False)
    validation = dict(batch_size=40, num_workers=0, persistent_workers=False, dataset=pictures)
    unshuffled = dict(type='DefaultSampler', shuffle=False)
    checkpoint = dict(
        type='reviewkd_mm.AtomicCheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        save_best='auto',
        rule='greater',
    )
    settings = dict(
        train_dataloader=loader,
        val_evaluator=dict(type='Confidence'),
        val_dataloader={**loader, **validation, 'sampler': unshuffled},
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=4, convert_to_iter_based=True),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=checkpoint),
        custom_hooks=[
            dict(type='EMAHook', momentum=0.4),
            dict(type='reviewkd_mm.EpochInfoHook'),
            dict(type='reviewkd_mm.ExactResumeHook'),
            *hooks,
        ],
    )
    return {**settings, **kwargs}


def model() -> dict[str, Any]:
    """Config of a distiller whose student mixes images at random and whose loss warms up."""
    student = classifier(
        train_cfg=dict(augments=dict(type='Mixup', alpha=1.0)),
        data_preprocessor=dict(PIXELS, num_classes=NUM_CLASSES),
    )
    return distiller_cfg(student=student, transfers=dict(review=review(warmup_epochs=3)))


def run(work_dir: Path, workers: int = 0, **kwargs: Any) -> Runner:
    """Train to the end."""
    return train(model(), work_dir, **options(workers, **kwargs))


def stop_and_resume(work_dir: Path, stage: str, workers: int = 0, **kwargs: Any) -> Runner:
    """Train, stop where a stage begins with two epochs done, and resume to the end."""
    with pytest.raises(Stopped):
        run(work_dir, workers, hooks=[dict(type='StopAt', stage=stage)], **kwargs)
    MessageHub._instance_dict.clear()
    return run(work_dir, workers, resume=True, **kwargs)


def outcome(runner: Runner) -> dict[str, Any]:
    """Return all that a training has learned, measured and planned, by name."""
    hub = runner.message_hub
    values = dict(runner.model.state_dict())
    ema = next(hook for hook in runner.hooks if hasattr(hook, 'ema_model'))
    values |= {f'ema.{name}': value for name, value in ema.ema_model.state_dict().items()}
    states = runner.optim_wrapper.optimizer.state_dict()['state']
    values |= {f'momentum.{i}': state['momentum_buffer'] for i, state in states.items()}
    for name, scalars in hub.log_scalars.items():
        if not name.endswith(TIMES):
            values[f'curve.{name}'] = torch.as_tensor(scalars.data[0])
    values['lr'] = torch.tensor(runner.optim_wrapper.get_lr()['lr'])
    values['best'] = torch.tensor(hub.get_info('best_score'))
    values['random'] = torch.rand(4)
    return {name: torch.as_tensor(value).clone() for name, value in values.items()}


def different(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    """Return the names of what differs in a bit."""
    assert list(one) == list(other)
    return [name for name in one if not torch.equal(one[name], other[name])]
