"""Whether a student learns at its taps, or is frozen there."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping

from mmengine.logging import print_log
from torch import nn

from reviewkd_mm.errors import ConfigError, config_key
from reviewkd_mm.models.distillers.probe import (
    FAILURES,
    IMAGE_SIZES,
    Forward,
    dummy_images,
    evaluating,
    record_images,
)
from reviewkd_mm.models.recorders import BaseTap, Recorder


def check_not_frozen(
    model: nn.Module, recorders: Mapping[str, Recorder], forward: Forward
) -> frozenset[str]:
    """Check that the gradients of the features reach a parameter that trains.

    What counts is the whole way down: a frozen stage above one that trains passes them on.
    Where they reach none at some taps alone there is a warning. What a model detaches is not
    frozen: that is for training to find.

    Args:
        model (nn.Module): The student.
        recorders (Mapping[str, Recorder]): Its recorders by config key, which hold features of
            this forward. They are left as they are.
        forward (Callable[[nn.Module, Tensor], object]): What reaches their taps.

    Returns:
        frozenset[str]: Names of the features whose gradients reach none.

    Raises:
        ValueError: If they reach none at any tap of a recorder.
    """
    with evaluating(model):
        model.train()  # Some freeze their stages only here.
    if all(parameter.requires_grad for parameter in model.parameters()):
        return frozenset()
    twins = copy.deepcopy(dict(recorders))
    try:
        frozen = _find_frozen(model, twins, forward)
        for key, names in frozen.items():
            with config_key(key):
                _report(key, names, len(recorders[key].features()))
    finally:
        for recorder in twins.values():
            recorder.close()
    return frozenset(name for names in frozen.values() for name in names)


def _find_frozen(
    model: nn.Module, recorders: Mapping[str, Recorder], forward: Forward
) -> dict[str, list[str]]:
    """Name the features whose gradients reach nothing that trains, by config key."""
    cut = _without_gradients(model, recorders, forward)
    if not any(cut.values()):
        return {}
    # Frozen layers pass the gradients of an image on, unlike what a model detaches.
    detached = _without_gradients(model, recorders, forward, of_images=True)
    return {
        key: [
            name
            for name, tap in taps.items()
            if name not in detached.get(key, taps) or not tap.trainable(model)
        ]
        for key, taps in cut.items()
    }


def _without_gradients(
    model: nn.Module, recorders: Mapping[str, Recorder], forward: Forward, of_images: bool = False
) -> dict[str, dict[str, BaseTap]]:
    """Return names and taps of the features without a graph; {} if the model cannot run."""
    for size in IMAGE_SIZES:
        images = dummy_images(model, size=size).requires_grad_(of_images)
        try:
            # Some change their images in place, which a leaf does not allow.
            record_images(model, recorders.values(), forward, images.clone(), gradients=True)
        except FAILURES:
            continue
        return {key: _names_without_gradients(recorder) for key, recorder in recorders.items()}
    return {}


def _names_without_gradients(recorder: Recorder) -> dict[str, BaseTap]:
    return {
        name: tap
        for tap in recorder.taps
        if tap.recorded
        for name, feature in zip(tap.names(), tap.features(), strict=True)
        if not feature.requires_grad
    }


def _report(key: str, frozen: list[str], count: int) -> None:
    if not frozen:
        return
    names = ', '.join(f"'{name}'" for name in frozen)
    message = f'the student is frozen up to {names}: nothing in it learns from the teacher there'
    if len(frozen) == count:
        raise ConfigError(f'{message}; tap what trains, or freeze less of it')
    print_log(f'{key}: {message}', 'current', logging.WARNING)
