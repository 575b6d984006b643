"""The shapes of the features that the transfers of a distiller compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reviewkd_mm.checks.complexity import copy_to
from reviewkd_mm.checks.image_size import Size
from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.models.distillers.probe import FAILURES
from reviewkd_mm.models.distillers.transfer import Transfer

Shape = tuple[int, ...]
Feature = tuple[str, Tensor]


@dataclass
class TransferShapes:
    """What the taps of one transfer give for one image.

    Args:
        student (list[tuple[str, tuple]]): Tap and shape (C, H, W) of each of the student's
            features.
        teacher (list[tuple[str, tuple]]): Likewise of the teacher's.
        connected (list[tuple]): Shapes of the connector's outputs; empty without a connector.
    """

    student: list[tuple[str, Shape]]
    teacher: list[tuple[str, Shape]]
    connected: list[Shape]


def find_shapes(distiller: Distiller, size: Size) -> dict[str, TransferShapes]:
    """Find the shapes that every transfer compares for an image.

    A copy of the distiller is run, where possible without computing anything.

    Args:
        distiller (Distiller): The distiller.
        size (tuple[int, int]): (height, width) of the image.

    Returns:
        dict[str, TransferShapes]: By name of the transfer.

    Raises:
        ValueError | RuntimeError: If a network or connector cannot take an image of this size.
    """
    try:
        # Shapes alone pass through a network on the meta device.
        return _find(copy_to(distiller, 'meta'), size)
    except FAILURES:  # It makes tensors elsewhere, or looks at a value.
        return _find(copy_to(distiller, 'cpu'), size)


def _find(distiller: Distiller, size: Size) -> dict[str, TransferShapes]:
    return {
        name: _shapes(distiller.transfers[name], student, teacher)
        for name, (student, teacher) in distiller.dummy_features(size).items()
    }


@torch.no_grad()
def _shapes(
    transfer: Transfer, student: Sequence[Feature], teacher: Sequence[Feature]
) -> TransferShapes:
    connected = []
    if transfer.connector is not None:
        features = [[feature for _, feature in side] for side in (student, teacher)]
        connected = transfer.connect(*features)
    return TransferShapes(
        student=[(tap, _shape(feature)) for tap, feature in student],
        teacher=[(tap, _shape(feature)) for tap, feature in teacher],
        connected=[_shape(feature) for feature in connected],
    )


def _shape(feature: Tensor) -> Shape:
    return tuple(feature.shape[1:])
