"""Whether the heads of a model take the channels that its backbone and neck give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.distillers.probe import (
    FAILURES,
    IMAGE_SIZES,
    dummy_images,
    evaluating,
    forward_features,
)

# Those of MMPretrain, MMDetection and MMSegmentation that are called with the features alone.
HEADS = ('head', 'bbox_head', 'rpn_head', 'decode_head', 'auxiliary_head')

# Key and in_channels of a head, and the channels that it is given.
Misfit = tuple[str, int | tuple[int, ...], tuple[int, ...]]


@torch.no_grad()
def check_head_channels(model: nn.Module, key: str) -> None:
    """Check that the heads of a model take the channels that its backbone and neck give.

    A head is refused if it fails on the features of a dummy image, and these have not the
    channels of its ``in_channels``. What cannot be told passes.

    Args:
        model (nn.Module): A model of MMPretrain, MMDetection or MMSegmentation, or any other.
        key (str): The config key of it, for the error message.

    Raises:
        ValueError: If a head cannot take the features.
    """
    found = None
    for size in IMAGE_SIZES:
        try:
            with evaluating(model):
                features = forward_features(model, dummy_images(model, size=size))
                misfit = _find_misfit(model, features)
        except (*FAILURES, IndexError):  # Some take images of their own size alone.
            continue
        # The channels of a flattened map change with the image.
        if misfit is None or found not in (None, misfit):
            return
        found = misfit
    if found is not None:
        name, in_channels, given = found
        raise ConfigError(
            f'{key}.{name}.in_channels={in_channels}: expected the channels that backbone and '
            f'neck give, {", ".join(map(str, given))}'
        )


def _find_misfit(model: nn.Module, features: object) -> Misfit | None:
    for name, head in _heads(model):
        in_channels = getattr(head, 'in_channels', None)
        if isinstance(in_channels, Sequence):
            in_channels = tuple(in_channels)
        given = _select(features, getattr(head, 'in_index', None), name)
        if given and not _fits(in_channels, given, head) and not _runs(head, features):
            return name, in_channels, given
    return None


def _heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name in HEADS:
        head = getattr(model, name, None)
        if isinstance(head, nn.ModuleList):
            yield from ((f'{name}.{index}', child) for index, child in enumerate(head))
        elif isinstance(head, nn.Module):
            yield name, head


def _select(features: object, in_index: int | Sequence[int] | None, name: str) -> tuple[int, ...]:
    """Return the channels of what a head reads; none where that is not known."""
    features = list(features) if isinstance(features, (tuple, list)) else [features]
    if name == 'head':  # MMPretrain's read what is last.
        features = features[-1:]
    elif in_index is not None:
        indices = in_index if isinstance(in_index, Sequence) else [in_index]
        features = [features[index] for index in indices]
    maps = all(isinstance(feature, Tensor) and feature.dim() in (2, 4) for feature in features)
    return tuple(feature.shape[1] for feature in features) if maps else ()


def _fits(in_channels: object, given: tuple[int, ...], head: nn.Module) -> bool:
    """Tell whether a head may take such features; it may if that is not known."""
    if isinstance(in_channels, tuple):
        return len(in_channels) != len(given) or in_channels == given
    if not isinstance(in_channels, int):
        return True
    joined = getattr(head, 'input_transform', None) == 'resize_concat'
    return in_channels == sum(given) if joined else in_channels in given


def _runs(head: nn.Module, features: object) -> bool:
    try:
        head(features)
    except Exception:  # A head may raise anything where it needs more than features.
        return False
    return True
