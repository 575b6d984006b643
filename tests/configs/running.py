"""Two steps and a validation of a CIFAR-100 config, on generated data."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from reviewkd_mm.cli import load_config
from reviewkd_mm.config import is_distiller

BATCH = 4
STEPS = 2


def write_cifar(folder: Path) -> dict[str, Any]:
    """Write images in CIFAR-100's layout and return the options that read them."""
    files = folder / 'cifar-100-python'
    files.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, number in (('train', STEPS * BATCH), ('test', BATCH)):
        images = rng.integers(0, 256, (number, 3072), dtype=np.uint8)
        content = dict(data=images, fine_labels=rng.integers(0, 100, number).tolist())
        (files / name).write_bytes(pickle.dumps(content))
    return _datasets(data_root=str(folder), check_md5=False)


def brief(file: Path, data: Path, work_dir: Path) -> Config:
    """Read a config and make it two steps and a validation, with an untrained teacher.

    Args:
        file (Path): The config.
        data (Path): Folder for generated data.
        work_dir (Path): Folder for what the run writes.

    Returns:
        Config: For a Runner.
    """
    cfg = load_config(str(file), write_cifar(data))
    cfg.work_dir, cfg.log_level, cfg.randomness = str(work_dir), 'ERROR', dict(seed=0)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.default_hooks.logger.interval = 1
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(batch_size=BATCH, num_workers=0, persistent_workers=False)
    if is_distiller(cfg.model):
        cfg.model.teacher_ckpt = 'random'
    return Config(cfg.to_dict(), format_python_code=False)


def _datasets(**options: Any) -> dict[str, Any]:
    return {
        f'{split}_dataloader.dataset.{key}': value
        for split in ('train', 'val')
        for key, value in options.items()
    }
