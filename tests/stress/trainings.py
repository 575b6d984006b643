"""Trainings of one step, as tools/train.py does them, of a tiny classifier and detector pair."""

from __future__ import annotations

import copy
import json
import runpy
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import mmcv
import numpy as np
import pytest
from mmengine.config import Config

from reviewkd_mm import cli
from reviewkd_mm.datasets.shapes import CLASSES, write_shapes
from tests.integration.detection import retinanet
from tests.models.distillers.helpers import distiller_cfg, review

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'train.py'
HOOKS = ROOT / 'configs' / '_base_' / 'hooks.py'
LIMIT = 60  # seconds, after which a training counts as hanging
PAIRS = ('classifier', 'detector')
EARLIER = ('epoch_7.pth', 'student_best.pth', 'student_best.py', 'notes.txt')
REMOVED = object()


@dataclass(frozen=True)
class Ending:
    """How a training ended.

    Args:
        kind (str): ``'trained'``; ``'refused'``, with one message; or ``'raised'``, with a
            traceback.
        message (str): What the user reads, the class of the error included where it was raised.
        lost (list[str]): Earlier files in the work dir that are not what they were.
    """

    kind: str
    message: str
    lost: list[str]


def write_images(folder: Path, suffix: str = '.png') -> Path:
    """Write four images of noise, two in each of two class folders."""
    generator = np.random.default_rng(0)
    for name in ('cat/0', 'cat/1', 'dog/2', 'dog/3'):
        image = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        mmcv.imwrite(image, str(folder / f'{name}{suffix}'))
    return folder


def write_data(folder: Path) -> Path:
    """Write the data of both pairs."""
    write_images(folder / 'images')
    write_shapes(folder / 'shapes', num_train=2, num_val=1, image_size=(64, 64))
    return folder


def base_config(pair: str, data: Path) -> dict[str, Any]:
    """Return the good config of a pair: one step of training and a validation."""
    cfg = _classifiers(data) if pair == 'classifier' else _detectors(data)
    hooks = Config.fromfile(HOOKS).distillation_hooks.to_dict()
    loader = dict(num_workers=0, batch_size=4)
    for split, shuffle in (('train', True), ('val', False)):
        cfg[f'{split}_dataloader'].update(
            loader, sampler=dict(type='DefaultSampler', shuffle=shuffle)
        )
    return dict(
        cfg,
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        param_scheduler=[dict(type='MultiStepLR', milestones=[1], by_epoch=True)],
        default_hooks=dict(hooks, logger=dict(type='LoggerHook', interval=1)),
        randomness=dict(seed=0),
        log_level='ERROR',
    )


def _classifiers(data: Path) -> dict[str, Any]:
    dataset = dict(
        type='CustomDataset',
        serialize_data=False,  # which collects garbage, for seconds
        data_root=str(data / 'images'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    )
    return dict(
        default_scope='mmpretrain',
        model=distiller_cfg(),
        train_dataloader=dict(dataset=dataset),
        val_dataloader=dict(dataset=dataset),
        val_evaluator=dict(type='Accuracy'),
    )


def _detectors(data: Path) -> dict[str, Any]:
    def dataset(split: str, *steps: dict, keys: tuple[str, ...]) -> dict:
        return dict(
            type='CocoDataset',
            serialize_data=False,
            data_root=f'{data}/shapes/',
            ann_file=f'annotations/instances_{split}.json',
            data_prefix=dict(img=f'{split}/'),
            metainfo=dict(classes=CLASSES),
            pipeline=[dict(type='LoadImageFromFile'), *steps, _pack(keys)],
        )

    annotations = dict(type='LoadAnnotations', with_bbox=True)
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape')
    resize = dict(type='Resize', scale_factor=1.0)
    scaled = (*keys, 'scale_factor')
    model = distiller_cfg(
        student=retinanet(),
        teacher=retinanet(width=6, channels=12),
        transfers=dict(review=review(student='neck', teacher='neck')),
    )
    return dict(
        default_scope='mmdet',
        model=model,
        train_dataloader=dict(dataset=dataset('train', annotations, keys=keys)),
        val_dataloader=dict(dataset=dataset('val', resize, annotations, keys=scaled)),
        val_evaluator=dict(
            type='CocoMetric', ann_file=f'{data}/shapes/annotations/instances_val.json'
        ),
    )


def _pack(keys: tuple[str, ...]) -> dict:
    return dict(type='PackDetInputs', meta_keys=keys)


def changed(cfg: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a config with some keys set, or removed, by their dotted names."""
    cfg = copy.deepcopy(dict(cfg))
    for key, value in change.items():
        *parents, last = key.split('.')
        node: Any = cfg
        for name in parents:
            node = node[_index(node, name)]
        if value is REMOVED:
            del node[_index(node, last)]
        else:
            node[_index(node, last)] = copy.deepcopy(value)
    return cfg


def _index(node: Any, name: str) -> str | int:
    return int(name) if isinstance(node, list) else name


def train(cfg: Mapping[str, Any], folder: Path, *options: str) -> Ending:
    """Train with tools/train.py in this process, in a work dir that holds earlier files."""
    work_dir = folder / 'work'
    work_dir.mkdir()
    earlier = {work_dir / name: name.encode() for name in EARLIER}
    for file, content in earlier.items():
        file.write_bytes(content)
    config = folder / 'config.json'
    config.write_text(json.dumps(cfg))
    try:
        with _time_limit(), _command_line(str(config), '--work-dir', str(work_dir), *options):
            _main()()
        kind, message = 'trained', ''
    except SystemExit as error:
        kind, message = 'refused', str(error.code)
    except Exception as error:  # Whatever a mutation ends with is what is to be judged.
        kind, message = 'raised', f'{type(error).__name__}: {error}'
    lost = [
        file.name
        for file, content in earlier.items()
        if not file.is_file() or file.read_bytes() != content
    ]
    return Ending(kind, message, [] if kind == 'trained' else lost)


@cache
def _main() -> Callable[[], None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'path', [*sys.path])
        return runpy.run_path(str(TOOL))['main']


@contextmanager
def _command_line(*args: str) -> Iterator[None]:
    def load_config(*load_args: Any) -> Config:
        # Formatting the config for the log takes longer than the training.
        cfg = load(*load_args)
        return Config(cfg.to_dict(), filename=cfg.filename, format_python_code=False)

    load = cli.load_config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['train.py', *args])
        patch.setenv('LOCAL_RANK', '0')
        patch.setattr(cli, 'load_config', load_config)
        # The Runner's survey of the machine takes a second.
        patch.setattr('mmengine.runner.runner.collect_env', dict)
        yield


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f'no end after {LIMIT} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
