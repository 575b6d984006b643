"""Trainings of many steps: nothing grows, nothing slows down and nothing is left behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import Tensor

from tests.engine.hooks import resuming
from tests.integration.detection import raw_batch, retinanet
from tests.integration.growth import GrowthHook
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    distiller_cfg,
    logits,
    review,
    train,
)

pytestmark = pytest.mark.stress

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / 'configs' / '_base_' / 'default_runtime.py'
TIMEOUT = 600  # seconds; an idle machine needs 30
# A step's smallest feature, kept for each step, would be more.
MEBIBYTES = 8
# One in ten steps may keep an object: more is a leak.
OBJECTS_PER_STEP = 0.1
# Of steps measured in steps of the student alone, which another process slows down as well.
SLOWER = 1.5


@DATASETS.register_module(force=True)
class TinyDetections(BaseDataset):
    """Random images of several sizes with two boxes each."""

    sizes = ((64, 64), (48, 40), (56, 96), (96, 64), (40, 64), (72, 72))

    def __init__(self) -> None:
        super().__init__(serialize_data=False)

    def load_data_list(self) -> list[dict]:
        data = raw_batch(self.sizes * 50)
        pairs = zip(data['inputs'], data['data_samples'], strict=True)
        return [dict(inputs=image, data_samples=sample) for image, sample in pairs]

    def prepare_data(self, idx: int) -> dict:
        return self.get_data_info(idx)


def loader(dataset: dict, workers: int, batch_size: int, collate: str) -> dict[str, Any]:
    """Settings of a dataloader for training."""
    return dict(
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type=collate),
        dataset=dataset,
    )


def hooks(interval: int) -> dict[str, Any]:
    """The hooks of every distilled classifier, an EMA and what counts."""
    runtime = Config.fromfile(RUNTIME).to_dict()
    del runtime['default_hooks']['visualization']  # Of classifiers, and off.
    default = {**runtime['default_hooks'], **runtime['distillation_hooks']}
    custom = [dict(type='EMAHook'), dict(type='GrowthHook', interval=interval)]
    return dict(default_hooks=default, custom_hooks=custom)


def train_classifier(work_dir: Path, epochs: int, interval: int) -> Runner:
    """Train epochs of 100 steps with a worker, a warm-up, and a validation every second epoch."""
    images = dict(type='reviewkd_mm.TinyImages', length=400)
    return train(
        distiller_cfg(transfers=dict(review=review(warmup_epochs=3), kd=logits())),
        work_dir,
        train_dataloader=loader(images, workers=1, batch_size=4, collate='default_collate'),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=2),
        **hooks(interval),
    )


def train_detector(work_dir: Path, epochs: int, interval: int) -> Runner:
    """Train epochs of 150 steps on images of several sizes, without a worker."""
    neck = dict(student='neck', teacher='neck')
    model = distiller_cfg(
        student=retinanet(),
        teacher=retinanet(width=6, channels=12),
        transfers=dict(review=review(**neck, warmup_epochs=1)),
    )
    images = dict(type='TinyDetections')
    return train(
        model,
        work_dir,
        default_scope='mmdet',
        train_dataloader=loader(images, workers=0, batch_size=2, collate='pseudo_collate'),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        **hooks(interval),
        **NO_VALIDATION,
    )


def check_nothing_grew(growth: GrowthHook, start: int) -> None:
    """Compare what was alive at an iteration after the warm-up with all later counts."""
    counts = [alive for alive in growth.alive if alive.iteration >= start]
    first = counts[0]
    assert len(counts) > 1
    for later in counts[1:]:
        assert later.values == 0
        assert later.hooks == first.hooks > 0
        assert later.tensors == first.tensors
        steps = later.iteration - first.iteration
        assert later.objects - first.objects < OBJECTS_PER_STEP * steps
        assert later.memory - first.memory < MEBIBYTES
    print(*counts, sep='\n')


def handles(work_dirs: Path) -> list[str]:
    """Return what this process has open, MMEngine's logs of trainings apart.

    A logger of MMEngine lives, and keeps its file open, until the process ends.
    """
    found = []
    for handle in Path('/proc/self/fd').iterdir():
        try:
            target = os.readlink(handle)
        except FileNotFoundError:  # The folder's own, closed by now.
            continue
        if not (target.startswith(str(work_dirs)) and target.endswith('.log')):
            found.append(target)
    return sorted(found)


def left_over(work_dirs: Path) -> tuple[list[str], list[threading.Thread], list[str]]:
    """Return the open files, the threads and the child processes of this process."""
    gc.collect()
    children = Path(f'/proc/self/task/{os.getpid()}/children').read_text().split()
    return handles(work_dirs), threading.enumerate(), children


def test_two_thousand_steps_of_a_classifier(tmp_path: Path) -> None:
    # The first training starts what stays for the whole process.
    train_classifier(tmp_path / 'first', epochs=1, interval=100)
    before = left_over(tmp_path)

    growth = GrowthHook.of(train_classifier(tmp_path / 'long', epochs=20, interval=500))

    assert left_over(tmp_path) == before
    assert growth.alive[-1].iteration == len(growth.steps) == 2000
    check_nothing_grew(growth, start=500)
    early, late = growth.slowness(200, 700), growth.slowness(1500, 2000)
    print(f'a step in steps of the student: {early:.2f}, then {late:.2f}')
    assert late < SLOWER * early


def test_hundreds_of_steps_of_a_detector(tmp_path: Path) -> None:
    train_detector(tmp_path / 'first', epochs=1, interval=150)
    before = left_over(tmp_path)

    growth = GrowthHook.of(train_detector(tmp_path / 'long', epochs=4, interval=150))

    assert left_over(tmp_path) == before
    # The first checkpoint, after the first count, wraps every storage in an object that stays.
    check_nothing_grew(growth, start=300)
    early, late = growth.slowness(50, 200), growth.slowness(450, 600)
    print(f'a step in steps of the student: {early:.2f}, then {late:.2f}')
    assert late < SLOWER * early


def outcome_of_a_training(work_dir: Path) -> dict[str, Tensor]:
    """Train a classifier that draws random numbers, with a warm-up and an EMA."""
    return resuming.outcome(resuming.run(work_dir, epochs=3))


def test_a_training_after_others_is_as_in_a_fresh_process(tmp_path: Path) -> None:
    train_detector(tmp_path / 'detector', epochs=1, interval=150)
    train_classifier(tmp_path / 'classifier', epochs=1, interval=100)
    after_others = outcome_of_a_training(tmp_path / 'after')

    command = [sys.executable, '-m', __name__, str(tmp_path / 'alone')]
    subprocess.run(command, cwd=ROOT, timeout=TIMEOUT, check=True)

    alone = torch.load(tmp_path / 'alone' / 'outcome.pth')
    assert not resuming.different(after_others, alone)
    assert any(name.startswith('curve.') for name in alone)


if __name__ == '__main__':
    folder = Path(sys.argv[1])
    torch.save(outcome_of_a_training(folder), folder / 'outcome.pth')
