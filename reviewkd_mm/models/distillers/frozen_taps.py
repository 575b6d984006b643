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
) -> None:
    """Check that the gradients of the features reach a parameter that trains.

    What counts is the whole way down: a frozen stage above one that trains passes them on.
    Where they reach none at some taps alone there is a warning.

    Args:
        model (nn.Module): The student.
        recorders (Mapping[str, Recorder]): Its recorders by config key. They are left as they
            were.
        forward (Callable[[nn.Module, Tensor], object]): What reaches their taps.

    Raises:
        ValueError: If they reach none at any tap of a recorder.
    """
    with evaluating(model):
        model.train()  # Some freeze their stages only here.
    if all(parameter.requires_grad for parameter in model.parameters()):
        return
    twins = copy.deepcopy(dict(recorders))
    try:
        if not _record(model, twins, forward):
            return
        for key, recorder in twins.items():
            with config_key(key):
                _check(model, recorder, key)
    finally:
        for recorder in twins.values():
            recorder.close()


def _record(model: nn.Module, recorders: Mapping[str, Recorder], forward: Forward) -> bool:
    """Record features with their graph; return whether the model can."""
    for size in IMAGE_SIZES:
        images = dummy_images(model, size=size)
        try:
            record_images(model, recorders.values(), forward, images, gradients=True)
        except FAILURES:
            continue
        return all(recorder.recorded for recorder in recorders.values())
    return False


def _check(model: nn.Module, recorder: Recorder, key: str) -> None:
    frozen = [name for tap in recorder.taps for name in _frozen(model, tap)]
    if not frozen:
        return
    names = ', '.join(f"'{name}'" for name in frozen)
    message = f'the student is frozen up to {names}: nothing in it learns from the teacher there'
    if len(frozen) == len(recorder.features()):
        raise ConfigError(f'{message}; tap what trains, or freeze less of it')
    print_log(f'{key}: {message}', 'current', logging.WARNING)


def _frozen(model: nn.Module, tap: BaseTap) -> list[str]:
    """Name the features whose gradients reach nothing that trains."""
    features = tap.features()
    reached = [feature.requires_grad for feature in features]
    if not any(reached) and any(p.requires_grad for p in tap.parameters(model)):
        return []  # Detached rather than frozen, which the first step tells.
    return [name for name, reaches in zip(tap.names(), reached, strict=True) if not reaches]
