"""Two steps and a validation of any config, through the Runner and on generated data."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config

from reviewkd_mm.cli import load_config
from reviewkd_mm.config import is_distiller
from reviewkd_mm.datasets.shapes import CLASSES, write_shapes
from reviewkd_mm.models.distillers.model_source import read_source
from tests.configs.shrink import shrink

SIDE = 96
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


def write_imagenet(folder: Path) -> dict[str, Any]:
    """Write images and lists in ImageNet's layout and return the options that read them."""
    rng = np.random.default_rng(0)
    (folder / 'meta').mkdir(parents=True)
    for split, number in (('train', STEPS * BATCH), ('val', BATCH)):
        for index in range(number):
            image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            mmcv.imwrite(image, str(folder / split / f'{index}.png'))
        lines = ''.join(f'{index}.png {index * 100}\n' for index in range(number))
        (folder / 'meta' / f'{split}.txt').write_text(lines)
    return _datasets(data_root=str(folder))


def write_coco(folder: Path) -> dict[str, Any]:
    """Write shapes in COCO's format and return the options that read them."""
    write_shapes(folder, num_train=STEPS * BATCH, num_val=1)
    options = {'coco_data.classes': CLASSES, 'coco_data.data_root': f'{folder}/'}
    for split in ('train', 'val'):
        options[f'coco_data.{split}.ann_file'] = f'annotations/instances_{split}.json'
        options[f'coco_data.{split}.data_prefix'] = dict(img=f'{split}/')
    return options


def write_cityscapes(folder: Path) -> dict[str, Any]:
    """Write images and label maps in Cityscapes' layout and return the options that read them."""
    rng = np.random.default_rng(0)
    for split, number in (('train', STEPS * BATCH), ('val', 1)):
        for index in range(number):
            image = rng.integers(0, 256, (SIDE, 2 * SIDE, 3), dtype=np.uint8)
            name = str(folder / '{}' / split / f'{index}_{{}}.png')
            mmcv.imwrite(image, name.format('leftImg8bit', 'leftImg8bit'))
            mmcv.imwrite(image[..., 0] % 19, name.format('gtFine', 'gtFine_labelTrainIds'))
    return _datasets(data_root=str(folder))


WRITERS = dict(
    cifar100=write_cifar,
    imagenet=write_imagenet,
    coco=write_coco,
    bccd=write_coco,
    nuclei=write_coco,
    shapes=write_coco,
    cityscapes=write_cityscapes,
)


def brief(file: Path, data: Path, work_dir: Path) -> Config:
    """Read a config and make it two steps and a validation.

    Args:
        file (Path): The config.
        data (Path): Folder for generated data.
        work_dir (Path): Folder for what the run writes.

    Returns:
        Config: For a Runner. Networks of the zoo are thinner; nothing is downloaded.
    """
    dataset = file.stem.removesuffix('_short').rpartition('_')[-1]
    options = WRITERS[dataset](data) if dataset in WRITERS else {}
    cfg = load_config(str(file), options)
    cfg.work_dir, cfg.log_level, cfg.randomness = str(work_dir), 'ERROR', dict(seed=0)
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.default_hooks.logger.interval = 1
    for loader, size in ((cfg.train_dataloader, BATCH), (cfg.val_dataloader, 1)):
        loader.update(batch_size=size, num_workers=0, persistent_workers=False)
        _innermost(loader.dataset).indices = STEPS * size
        _make_small(loader)
    if 'max_iters' in cfg.train_cfg:
        cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
    else:
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
    _shrink_models(cfg, dataset)
    return Config(cfg.to_dict(), format_python_code=False)


def _datasets(**options: Any) -> dict[str, Any]:
    return {
        f'{split}_dataloader.dataset.{key}': value
        for split in ('train', 'val')
        for key, value in options.items()
    }


def _innermost(dataset: dict) -> dict:
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _make_small(node: Any) -> None:
    """Resize and crop what is read from files to the size at which it was generated."""
    for transform in _transforms(node):
        kind = transform['type'].rpartition('.')[-1]
        if kind in ('Resize', 'RandomResize', 'RandomChoiceResize', 'CachedMosaic', 'Pad'):
            for key, value in dict(
                scale=(SIDE, SIDE), scales=[(SIDE, SIDE)], img_scale=(SIDE, SIDE)
            ).items():
                if key in transform:
                    transform[key] = value


def _transforms(node: Any) -> Iterator[dict]:
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _transforms(child)


def _shrink_models(cfg: Config, dataset: str) -> None:
    model = cfg.model
    if not is_distiller(model):
        if dataset in ('coco', 'cityscapes'):
            cfg.model = shrink(model)
        return
    if dataset not in ('coco', 'cityscapes'):
        model.teacher_ckpt = 'random'
        return
    teacher = read_source('teacher', model.teacher)
    model.teacher_ckpt = 'random'
    model.student = shrink(read_source('student', model.student).cfg)
    model.teacher = dict(shrink(teacher.cfg), _scope_=teacher.build_scope)
