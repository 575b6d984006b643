"""The shapes of the features that the transfers of a distiller compare."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import nn

from reviewkd_mm.checks.complexity import copy_to, image_for
from reviewkd_mm.checks.image_size import Size
from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.models.distillers.probe import FAILURES, probe
from reviewkd_mm.models.distillers.transfer import Transfer
from reviewkd_mm.models.recorders import ModuleOutputs, Recorder
from reviewkd_mm.models.recorders.base_tap import BaseTap

# Shapes alone pass through a network on the meta device. A network that makes tensors elsewhere,
# or looks at a value, is run.
DEVICES = ('meta', 'cpu')

Shape = tuple[int, ...]


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

    Copies of student and teacher are run, where possible without computing anything.

    Args:
        distiller (Distiller): The distiller.
        size (tuple[int, int]): (height, width) of the image.

    Returns:
        dict[str, TransferShapes]: By name of the transfer.

    Raises:
        ValueError | RuntimeError: If a network or connector cannot take an image of this size.
    """
    transfers = copy_to(distiller.transfers, 'cpu')
    _record(distiller.student, {name: t.student_recorder for name, t in transfers.items()}, size)
    _record(distiller.teacher, {name: t.teacher_recorder for name, t in transfers.items()}, size)
    return {
        name: TransferShapes(
            student=_name_features(transfer.student_recorder),
            teacher=_name_features(transfer.teacher_recorder),
            connected=_connect(transfer),
        )
        for name, transfer in transfers.items()
    }


@torch.no_grad()
def _record(model: nn.Module, recorders: dict[str, Recorder], size: Size) -> None:
    """Run a copy of a model once, no further than its taps."""
    for device in DEVICES:
        try:
            copied = copy_to(model, device)
            forward = probe(copied, recorders)
            with ExitStack() as stack:
                for recorder in recorders.values():
                    stack.enter_context(recorder.recording(copied))
                forward(copied, image_for(copied, size))
            return
        except FAILURES:
            if device == DEVICES[-1]:
                raise


@torch.no_grad()
def _connect(transfer: Transfer) -> list[Shape]:
    """Run a connector on zeros of the recorded shapes."""
    if transfer.connector is None:
        return []
    student, teacher = (
        [torch.zeros(feature.shape, dtype=feature.dtype) for feature in recorder.features()]
        for recorder in (transfer.student_recorder, transfer.teacher_recorder)
    )
    return [_shape(feature) for feature in transfer.connect(student, teacher)]


def _name_features(recorder: Recorder) -> list[tuple[str, Shape]]:
    named = []
    for tap in recorder.taps:
        features = tap.features()
        for index, feature in enumerate(features):
            number = f'[{index}]' if len(features) > 1 else ''
            named.append((f'{_name(tap)}{number}', _shape(feature)))
    return named


def _name(tap: BaseTap) -> str:
    name = tap.source if type(tap) is ModuleOutputs else f'{type(tap).__name__}({tap.source})'
    return name if tap.call == -1 else f'{name} call={tap.call}'


def _shape(feature: torch.Tensor) -> Shape:
    return tuple(feature.shape[1:])
