"""What a training would find out about its data sets late, or in words that name no key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, DefaultScope

from reviewkd_mm.config import is_distiller
from reviewkd_mm.config.built_parts import find_class
from reviewkd_mm.config.parts import innermost_datasets
from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.distillers.model_source import student_source

# Data sets and transforms whose samples are known.
ZOOS = ('mmcv', 'mmdet', 'mmpretrain', 'mmseg')
CLASSIFICATION = ('mmpretrain.', 'reviewkd_mm.')


def check_data_sets(cfg: Config) -> None:
    """Check that data sets have images, pack them, and have no more classes than the student.

    Args:
        cfg (Config): The config, as the Runner takes it.

    Raises:
        ValueError: If one has not.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        for key, dataset in _data_sets(cfg):
            for name, folder in _folders(dataset):
                if folder.is_dir() and not any(path.is_file() for path in folder.rglob('*')):
                    raise ConfigError(f"{key}.{name}: there is no file in '{folder}'")
        for split in ('train', 'val'):
            dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
            if isinstance(dataset, Mapping):
                _check_packed(f'{split}_dataloader.dataset', dataset)
        _check_classes(cfg)


def find_empty_files(cfg: Config) -> list[str]:
    """Find the first empty files in the folders of the data sets.

    Args:
        cfg (Config): The config.

    Returns:
        list[str]: A line for each, with the config key that names its folder.
    """
    empty = (
        f"'{path}' is empty ({key}.{name})"
        for key, dataset in _data_sets(cfg)
        for name, folder in _folders(dataset)
        for path in folder.rglob('*.*')
        if path.is_file() and not path.stat().st_size
    )
    return list(islice(empty, 3))


def _data_sets(
    cfg: Config, splits: Sequence[str] = ('train', 'val')
) -> Iterator[tuple[str, Mapping]]:
    for split in splits:
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        yield from innermost_datasets(dataset, f'{split}_dataloader.dataset')


def _folders(dataset: Mapping) -> Iterator[tuple[str, Path]]:
    """Yield the keys and paths of the folders of images."""
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or ''
    prefixes = prefix if isinstance(prefix, Mapping) else {'': prefix}
    for name, folder in prefixes.items():
        key = f'data_prefix.{name}'.rstrip('.') if folder else 'data_root'
        if (root or folder) and not dataset.get('download'):
            yield key, Path(root, folder)


def _check_packed(key: str, dataset: Mapping) -> None:
    classes = list(_classes(dataset))
    known = all(getattr(cls, '__module__', '').partition('.')[0] in ZOOS for cls in classes)
    names = [getattr(cls, '__name__', '') for cls in classes]
    if known and not any('Pack' in name for name in names):
        raise ConfigError(
            f'{key}.pipeline: none of {", ".join(names)} makes inputs of an image; expected '
            'PackInputs (MMPretrain), PackDetInputs or PackSegInputs at the end of the pipeline'
        )


def _classes(node: Any) -> Iterator[Any]:
    """Yield the classes of a data set, of those inside of it and of all transforms."""
    if isinstance(node, Mapping):
        with DefaultScope.overwrite_default_scope(node.get('_scope_')):
            if 'type' in node:
                yield find_class(node['type'], TRANSFORMS) or find_class(node['type'], DATASETS)
            yield from _classes(list(node.values()))
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _classes(child)


def _check_classes(cfg: Config) -> None:
    """Check that the student has an output for each class of the data that it is trained on."""
    prefix = 'model.student' if is_distiller(cfg.model) else 'model'
    model = student_source(cfg).cfg
    roi_head = model.get('roi_head') or {}
    heads = {
        'head': model.get('head'),
        'bbox_head': model.get('bbox_head'),
        'roi_head.bbox_head': roi_head.get('bbox_head') if isinstance(roi_head, Mapping) else None,
    }
    for key, dataset in _data_sets(cfg, ('train',)):
        count = _count_classes(dataset)
        for name, head in heads.items():
            known = head.get('num_classes') if isinstance(head, Mapping) else None
            if isinstance(known, int) and known < count:
                raise ConfigError(
                    f'{prefix}.{name}.num_classes={known}: expected {count}, the classes of {key}'
                )


def _count_classes(dataset: Mapping) -> int:
    """Count the classes of a data set, 0 where they are not known."""
    cls = find_class(dataset.get('type'), DATASETS)
    given = dataset.get('metainfo')
    classes = given.get('classes') if isinstance(given, Mapping) else dataset.get('classes')
    # A detector may leave out some of those of its data set: a panoptic one those of "stuff".
    if classes is None and getattr(cls, '__module__', '').startswith(CLASSIFICATION):
        classes = getattr(cls, 'METAINFO', {}).get('classes')
    if isinstance(classes, (list, tuple)):
        return len(classes)
    if getattr(cls, '__name__', '') != 'CustomDataset' or dataset.get('ann_file'):
        return 0
    folders = [folder for _, folder in _folders(dataset) if folder.is_dir()]
    return sum(path.is_dir() for folder in folders for path in folder.iterdir())
