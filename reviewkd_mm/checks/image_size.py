"""The size of the images that a config's model gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from mmengine.config import Config

from reviewkd_mm.config.parts import innermost_datasets
from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.distillers.model_source import student_source

Size = tuple[int, int]

# The first split that says a size decides: the one on which the model is judged.
SPLITS = ('val', 'test', 'train')
# The key of a transform that holds the size of what comes out. Two numbers are (width, height) ...
WIDTH_FIRST = {
    'CenterCrop': 'crop_size',
    'Pad': 'size',
    'RandomChoiceResize': 'scales',
    'RandomResize': 'scale',
    'Resize': 'scale',
}
# ... or (height, width).
HEIGHT_FIRST = {
    'EfficientNetCenterCrop': 'crop_size',
    'EfficientNetRandomCrop': 'scale',
    'RandomCrop': 'crop_size',
    'RandomResizedCrop': 'scale',
    'ResizeEdge': 'scale',
}


def find_image_size(cfg: Config) -> tuple[Size, str] | None:
    """Read the size of the images from the data pipelines of a config.

    The last transform of a pipeline that sets a size decides; of several sizes it is the
    largest. Where the aspect ratio is kept the image is taken to be wider than high.

    Args:
        cfg (Config): The config.

    Returns:
        tuple[tuple[int, int], str] | None: (height, width) and the split whose pipeline says
        so; None where no pipeline sets a size.
    """
    for split in SPLITS:
        dataset = (cfg.get(f'{split}_dataloader') or {}).get('dataset')
        for _, inner in innermost_datasets(dataset):
            transforms = inner.get('pipeline') or []
            sizes = [_size_after(transform, cfg.get('default_scope')) for transform in transforms]
            sizes = [size for size in sizes if size is not None]
            if sizes:
                return sizes[-1], split
    return None


def pad_to(size: Size, divisor: int) -> Size:
    """Round height and width up to multiples of a number, as a data_preprocessor pads.

    Args:
        size (tuple[int, int]): (height, width).
        divisor (int): The number.

    Returns:
        tuple[int, int]: (height, width).
    """
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width


def padded_image_size(cfg: Config) -> Size:
    """Return the size in which the images of a config reach its student.

    Args:
        cfg (Config): A training config, of a distiller or of an ordinary model.

    Returns:
        tuple[int, int]: (height, width) of the largest image, padded as its data_preprocessor
        does it.

    Raises:
        ValueError: If no pipeline sets a size.
    """
    found = find_image_size(cfg)
    if found is None:
        raise ConfigError(
            'no data pipeline of the config sets the size of its images; give it with --image-size'
        )
    preprocessor = student_source(cfg).cfg.get('data_preprocessor') or {}
    return pad_to(found[0], preprocessor.get('pad_size_divisor') or 1)


def _size_after(transform: Any, default_scope: str | None) -> Size | None:
    """Return the size that a transform gives its images, None if it leaves that open."""
    if not isinstance(transform, Mapping):
        return None
    scope, _, name = str(transform.get('type')).rpartition('.')
    if name in WIDTH_FIRST:
        sizes = _read(transform.get(WIDTH_FIRST[name]))
        width_first = True
    elif name in HEIGHT_FIRST:
        sizes = _read(transform.get(HEIGHT_FIRST[name]))
        width_first = name == 'RandomCrop' and (scope or default_scope) == 'mmdet'
    else:
        return None
    if not sizes:
        return None
    size = max(sizes, key=prod)
    keeps_ratio = {**transform, **(transform.get('resize_kwargs') or {})}.get('keep_ratio')
    if keeps_ratio:
        return min(size), max(size)
    return size[::-1] if width_first else size


def _read(value: Any) -> list[Size]:
    """Return the pairs of numbers that a transform's size may be written as."""
    if isinstance(value, int):
        return [(value, value)]
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    if len(value) == 2 and all(isinstance(side, int) for side in value):
        return [(value[0], value[1])]
    return [size for item in value if isinstance(item, Sequence) for size in _read(item)]
