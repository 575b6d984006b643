"""Two steps and a validation of any config, on generated data and with a small model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from reviewkd_mm import cli
from reviewkd_mm.config import is_distiller
from reviewkd_mm.models.distillers import teacher
from tests.configs.shrink import shrink_model

STEPS = 2
BATCH = 4
VALIDATED = 2
NOISE = 32
# What the sides of the images are divided by; those of other data are small enough.
SMALLER = {
    'data/bccd/': 2,
    'data/cityscapes/': 8,
    'data/coco/': 5,
    'data/imagenet': 4,
    'data/nuclei/': 2,
}
SIZES = {'crop_size', 'img_scale', 'scale', 'scales', 'size'}


def brief(file: Path, work_dir: Path) -> Config:
    """Read a config as the training tool does and make it two steps and a validation.

    Models and images become small and the teacher untrained. Transfers, hooks, schedules, data
    sets, pipelines and evaluators are the config's own.

    Args:
        file (Path): The config.
        work_dir (Path): Folder for what the run writes.

    Returns:
        Config: For a Runner in a folder with the data of :func:`tests.configs.data.write_data`.
    """
    cfg = cli.load_config(str(file))
    cfg.work_dir, cfg.log_level, cfg.randomness = str(work_dir), 'ERROR', dict(seed=0)
    cfg.default_hooks.logger.interval = 1
    _shorten(cfg)
    shrink_model(cfg)
    _find_any_box(cfg.model.student if is_distiller(cfg.model) else cfg.model)
    _shrink_images(cfg)
    cli.set_dataloaders(cfg)
    return Config(cfg.to_dict(), filename=str(file), format_python_code=False)


def shrink_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give an untrained teacher its statistics from images as small as CIFAR's.

    Args:
        monkeypatch (pytest.MonkeyPatch): What restores the larger ones after the test.
    """
    monkeypatch.setattr(teacher, 'NOISE_SIZES', ((NOISE, NOISE),))


def innermost(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data set that others, such as RepeatDataset, wrap."""
    return innermost(dataset['dataset']) if 'dataset' in dataset else dataset


def _shorten(cfg: Config) -> None:
    by_iteration = 'max_iters' in cfg.train_cfg
    cfg.train_cfg.update(
        dict(max_iters=STEPS, val_interval=STEPS)
        if by_iteration
        else dict(max_epochs=1, val_interval=1)
    )
    for loader, number in ((cfg.train_dataloader, STEPS * BATCH), (cfg.val_dataloader, VALIDATED)):
        loader.update(batch_size=min(BATCH, number), num_workers=0)
        dataset = innermost(loader.dataset)
        dataset.indices = number // loader.dataset.get('times', 1)
        if dataset.type.endswith('CIFAR100'):
            dataset.check_md5 = False


def _find_any_box(model: dict[str, Any]) -> None:
    """Keep what an untrained detector finds: it is sure of nothing, and without a box is no AP."""
    test_cfg = model.get('test_cfg') or {}
    test_cfg = test_cfg.get('rcnn', test_cfg)
    if 'score_thr' in test_cfg:
        test_cfg['score_thr'] = 0.0


def _shrink_images(cfg: Config) -> None:
    factor = SMALLER.get(innermost(cfg.train_dataloader.dataset).get('data_root'))
    if factor is None:
        return
    models = [cfg.model, *(cfg.model.get(role, {}) for role in ('student', 'teacher'))]
    for part in (
        cfg.train_dataloader,
        cfg.val_dataloader,
        cfg.get('custom_hooks'),
        *(model.get('data_preprocessor') for model in models),
    ):
        _divide_sizes(part, factor)


def _divide_sizes(node: Any, factor: int) -> None:
    """Divide every size in a part of a config, which is changed in place."""
    items = node.items() if isinstance(node, dict) else enumerate(node or ())
    for key, value in items:
        if key in SIZES:
            node[key] = _divide(value, factor)
        elif isinstance(value, (dict, list)):
            _divide_sizes(value, factor)


def _divide(size: Any, factor: int) -> Any:
    if isinstance(size, (list, tuple)):
        return type(size)(_divide(side, factor) for side in size)
    return size // factor
