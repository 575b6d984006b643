"""Parts of a config that several readers look for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.model import PretrainedInit

# Types of an init_cfg that loads weights.
PRETRAINED = ('Pretrained', PretrainedInit)


def is_distiller(model: Mapping) -> bool:
    """Return whether a model config is a distiller's: it has a student and a teacher."""
    return {'student', 'teacher'} <= set(model)


def innermost_dataset(dataset: Mapping | None) -> Mapping:
    """Return the dataset inside of wrappers such as RepeatDataset.

    Args:
        dataset (dict, optional): A dataset's config.

    Returns:
        dict: The config of the one that reads the data; empty if there is none.
    """
    while isinstance(dataset, Mapping) and isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']
    return dataset if isinstance(dataset, Mapping) else {}


def innermost_datasets(dataset: Any, key: str = 'dataset') -> Iterator[tuple[str, Mapping]]:
    """Yield the datasets that read data, inside of wrappers and of ConcatDataset.

    Args:
        dataset (dict | None): A dataset's config.
        key (str): Its key in the dataloader. Defaults to ``'dataset'``.

    Yields:
        tuple[str, dict]: The dotted key and the config of each.
    """
    if not isinstance(dataset, Mapping):
        return
    if isinstance(dataset.get('dataset'), Mapping):
        yield from innermost_datasets(dataset['dataset'], f'{key}.dataset')
    elif isinstance(dataset.get('datasets'), (list, tuple)):
        for index, child in enumerate(dataset['datasets']):
            yield from innermost_datasets(child, f'{key}.datasets.{index}')
    else:
        yield key, dataset


def walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything below a part of a config.

    Args:
        node (Any): The part.
        path (str): Its own dotted key.
    """
    if isinstance(node, Mapping):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        return
    for key, child in items:
        yield f'{path}.{key}', child
        yield from walk(child, f'{path}.{key}')
