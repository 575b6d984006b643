"""What a training would miss: checkpoints, data and packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.config import Config

from reviewkd_mm.config.coco_data import SPLITS
from reviewkd_mm.config.parts import innermost_datasets
from reviewkd_mm.files.safe_loading import resolve_name
from reviewkd_mm.models.distillers.checkpoint import check_checkpoint_exists
from reviewkd_mm.version_check import REQUIREMENTS, how_to_install

DATA_KEYS = tuple(f'{split}_{what}' for split in SPLITS for what in ('dataloader', 'evaluator'))
# What the zoos' datasets, transforms and metrics import only when they are used.
IMPORTED_LATE = {
    'Albu': 'albumentations',
    'Albumentations': 'albumentations',
    'CityScapesMetric': 'cityscapesscripts',
    'CocoPanopticDataset': 'panopticapi',
    'CocoPanopticMetric': 'panopticapi',
    'LVISDataset': 'lvis',
    'LVISMetric': 'lvis',
    'LVISV05Dataset': 'lvis',
    'LVISV1Dataset': 'lvis',
    'LoadPanopticAnnotations': 'panopticapi',
}
OPTIONAL = tuple(requirement.module for requirement in REQUIREMENTS if requirement.optional)


def find_missing_data(cfg: Config) -> list[str]:
    """Find the folders and files of the datasets and evaluators that do not exist.

    Of a folder that is missing nothing below it is listed.

    Args:
        cfg (Config): A config after ``resolve_coco_data``.

    Returns:
        list[str]: A line for each, with the config keys that name it.
    """
    missing: dict[Path, list[str]] = {}
    for key, path in _data_paths(cfg):
        if not path.exists():
            missing.setdefault(path, []).append(key)
    return [
        f"there is no '{path}' ({', '.join(keys)})"
        for path, keys in missing.items()
        if not any(parent in missing for parent in path.parents)
    ]


def find_data_downloads(cfg: Config) -> list[str]:
    """Find the datasets that fetch their data by themselves.

    Args:
        cfg (Config): The config.

    Returns:
        list[str]: A line for each folder that does not exist yet.
    """
    roots = {
        dataset['data_root']: None
        for _, dataset in _datasets(cfg)
        if dataset.get('download') and not Path(dataset.get('data_root') or '.').exists()
    }
    return [f"data of '{root}' (download=True)" for root in roots]


def find_missing_packages(cfg: Config) -> list[str]:
    """Find packages that the config needs and that are not installed.

    Args:
        cfg (Config): The config.

    Returns:
        list[str]: A line for each, with what needs it and how it is installed.
    """
    needed: dict[str, str] = {}
    if cfg.get('default_scope') in OPTIONAL:
        needed[cfg.default_scope] = f"default_scope='{cfg.default_scope}'"
    for name in _types({key: cfg.get(key) for key in ('model', *DATA_KEYS)}):
        scope, _, last = name.rpartition('.')
        package = scope.partition('.')[0]
        for module in (package if package in OPTIONAL else None, IMPORTED_LATE.get(last)):
            if module is not None:
                needed.setdefault(module, f"type='{name}'")
    return [
        f"the package '{module}', which {user} needs, is not installed{how_to_install(module)}"
        for module, user in needed.items()
        if find_spec(module) is None
    ]


def is_remote(checkpoint: str) -> bool:
    """Return whether a checkpoint has to be fetched: ``https://...``, ``torchvision://...``."""
    return '://' in checkpoint


def is_cached(checkpoint: str) -> bool:
    """Return whether a remote checkpoint was downloaded before.

    Args:
        checkpoint (str): A URL, or a name such as ``'torchvision://resnet50'``.

    Raises:
        ValueError: If MMEngine knows no such name, with the nearest that it knows.
    """
    name = Path(urlparse(resolve_name(checkpoint)).path).name
    return Path(torch.hub.get_dir(), 'checkpoints', name).is_file()


def describe_weights(key: str, checkpoint: str) -> tuple[str | None, str | None]:
    """Say what a training will miss or fetch of a checkpoint.

    Args:
        key (str): The config key that names it.
        checkpoint (str): Path, URL, or a name such as ``'torchvision://resnet50'``.

    Returns:
        tuple[str | None, str | None]: What is missing, and what will be downloaded. Both are
        None for weights that are there.
    """
    try:
        if not is_remote(checkpoint):
            check_checkpoint_exists(checkpoint, key)
        elif not is_cached(checkpoint):
            return None, f'{checkpoint} ({key})'
    except (FileNotFoundError, ValueError) as error:
        return f'{key}: {error}' if is_remote(checkpoint) else str(error), None
    return None, None


def _datasets(cfg: Config) -> Iterator[tuple[str, Mapping]]:
    for split in SPLITS:
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        yield from innermost_datasets(dataset, f'{split}_dataloader.dataset')


def _data_paths(cfg: Config) -> Iterator[tuple[str, Path]]:
    """Yield the config key and the path of everything that is read from the disk."""
    for key, dataset in _datasets(cfg):
        if dataset.get('download'):
            continue
        root = dataset.get('data_root') or ''
        prefix = dataset.get('data_prefix') or {}
        prefixes = prefix if isinstance(prefix, Mapping) else {'': prefix}
        names = {
            'data_root': root,
            'ann_file': dataset.get('ann_file'),
            **{f'data_prefix.{name}'.rstrip('.'): value for name, value in prefixes.items()},
        }
        for name, value in names.items():
            if _is_local(value) and _is_local(root, empty=True):
                yield f'{key}.{name}', Path(value if name == 'data_root' else Path(root, value))
    for split in SPLITS:
        metrics = cfg.get(f'{split}_evaluator') or []
        for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
            for name in ('ann_file', 'seg_prefix'):
                if isinstance(metric, Mapping) and _is_local(metric.get(name)):
                    yield f'{split}_evaluator.{name}', Path(metric[name])


def _is_local(path: Any, empty: bool = False) -> bool:
    return isinstance(path, str) and (bool(path) or empty) and '://' not in path


def _types(node: Any) -> Iterator[str]:
    """Yield every ``type`` below a part of a config that is a name."""
    if isinstance(node, Mapping):
        if isinstance(node.get('type'), str):
            yield node['type']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _types(child)
