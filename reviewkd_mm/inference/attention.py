"""Read out of a distiller what its student reviews: features and attention maps, by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.distillers import Distiller, Transfer
from reviewkd_mm.models.recorders import Recorder
from reviewkd_mm.utils import did_you_mean


@dataclass(frozen=True)
class StageMaps:
    """The maps of one stage for one image; of a feature it is the mean over its channels.

    Args:
        student_tap (str): Where the student's feature is read.
        teacher_tap (str): Where the teacher's feature is read.
        student (np.ndarray): The student's feature (H, W).
        connected (np.ndarray): The same after the connector (h, w), as the loss compares it.
        teacher (np.ndarray): The teacher's feature (h, w).
        attention (np.ndarray, optional): The weights (2, H, W), in [0, 1], of the student's
            feature and of the residual of the deeper stages. None where nothing is weighted.
        fused (bool): Whether the stage has a residual, which the deepest one lacks.
        before (np.ndarray, optional): The student's feature (H, W) with other weights. Defaults
            to None.
    """

    student_tap: str
    teacher_tap: str
    student: np.ndarray
    connected: np.ndarray
    teacher: np.ndarray
    attention: np.ndarray | None
    fused: bool
    before: np.ndarray | None = None


def choose_transfer(transfers: nn.ModuleDict, name: str | None = None) -> str:
    """Choose a transfer whose connector is a :class:`ReviewConnector`.

    Args:
        transfers (nn.ModuleDict): The transfers of a distiller.
        name (str, optional): The one that is asked for. Defaults to None, which means the first
            one that has such a connector.

    Returns:
        str: Its name.

    Raises:
        ValueError: If there is none of that name, or none with such a connector.
    """
    if name is not None and name not in transfers:
        hint = did_you_mean(name, transfers)
        raise ConfigError(f"transfer='{name}': the distiller has no such transfer; {hint}")
    for key in transfers if name is None else [name]:
        if isinstance(transfers[key].connector, ReviewConnector):
            return key
    which = 'transfers: none has a' if name is None else f"transfer='{name}' has no"
    raise ConfigError(
        f'{which} ReviewConnector, whose attention is shown; the transfers are '
        f'{", ".join(map(_describe, transfers.items()))}'
    )


class StageReader:
    """Read the stages of a transfer.

    Args:
        distiller (Distiller): The distiller, with its weights, in eval mode.
        transfer (str): Name of a transfer whose connector is a :class:`ReviewConnector`.
        before (nn.Module, optional): A student of the same architecture with other weights, in
            eval mode. Defaults to None.
    """

    def __init__(
        self, distiller: Distiller, transfer: str, before: nn.Module | None = None
    ) -> None:
        self.distiller = distiller
        self.transfer: Transfer = distiller.transfers[transfer]
        self.before = before
        self.name = transfer

    @torch.no_grad()
    def read(self, inputs: Tensor, data_samples: Sequence | None = None) -> list[StageMaps]:
        """Run student, teacher and connector on an image.

        Args:
            inputs (Tensor): Image (1, C, H, W) from the student's data_preprocessor.
            data_samples (Sequence, optional): Its sample, which tells the image from padding.
                Defaults to None.

        Returns:
            list[StageMaps]: The stages, shallow to deep.
        """
        transfer, recorders = self.transfer, self.distiller.teacher_recorders
        teacher = self.distiller.record_teacher(inputs, data_samples)[self.name]
        teacher_taps = recorders[self.name].names()
        for recorder in recorders.values():
            recorder.clear()
        student, student_taps = self._of_student(self.distiller.student, inputs)
        before = [None] * len(student)
        if self.before is not None:
            before, _ = self._of_student(self.before, inputs)
        sizes = [tuple(feature.shape[-2:]) for feature in teacher]
        connected, attention = connect(transfer.connector, student, sizes)
        return [
            StageMaps(
                student_taps[stage],
                teacher_taps[stage],
                _mean(student[stage]),
                _mean(connected[stage]),
                _mean(teacher[stage]),
                None if attention[stage] is None else _to_numpy(attention[stage]),
                abf.fuse,
                None if before[stage] is None else _mean(before[stage]),
            )
            for stage, abf in enumerate(transfer.connector.abfs)
        ]

    def _of_student(self, student: nn.Module, inputs: Tensor) -> tuple[list[Tensor], list[str]]:
        recorder = self.distiller.student_recorders[self.name]
        try:
            with recorder.recording(student):
                self.distiller.student_forward(student, inputs)
            return recorder.features(), recorder.names()
        finally:
            recorder.clear()


@torch.no_grad()
def connect(
    connector: ReviewConnector, features: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Run a connector and compute the attention maps with which it fuses.

    Args:
        connector (ReviewConnector): The connector.
        features (Sequence[Tensor]): Student features (N, C_i, H_i, W_i), shallow to deep.
        sizes (Sequence[tuple[int, int]]): (H, W) of each teacher feature, shallow to deep.

    Returns:
        tuple[list[Tensor], list[Tensor | None]]: What the connector returns, and the maps
        (N, 2, H_i, W_i) of each stage, None where nothing is weighted.
    """
    stages = range(len(connector.abfs))
    reduced = Recorder([f'abfs.{stage}.conv1' for stage in stages])
    fused = Recorder([f'abfs.{stage}' for stage in stages])
    try:
        with reduced.recording(connector), fused.recording(connector):
            outputs = connector(features, sizes)
        # An ABF returns its output and the residual for the next shallower stage.
        inner, residuals = reduced.features(), fused.features()[1::2]
    finally:
        reduced.close()
        fused.close()
    maps = [
        None if abf.att_conv is None else abf.attention_maps(inner[stage], residuals[stage + 1])
        for stage, abf in enumerate(connector.abfs)
    ]
    return outputs, maps


def _describe(item: tuple[str, Transfer]) -> str:
    name, transfer = item
    kind = 'no connector' if transfer.connector is None else type(transfer.connector).__name__
    return f"'{name}' ({kind})"


def _mean(feature: Tensor) -> np.ndarray:
    return _to_numpy(feature.float().mean(dim=1))


def _to_numpy(maps: Tensor) -> np.ndarray:
    return maps[0].float().cpu().numpy()
