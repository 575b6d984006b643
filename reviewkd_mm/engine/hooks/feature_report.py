"""What a transfer compared, in words and numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reviewkd_mm.models.distillers.transfer import Transfer
from reviewkd_mm.models.recorders import Recorder

ADVICE = {
    'teacher': "check teacher_ckpt, or set teacher_dtype='fp32' if half precision is too small",
    'student': 'it has diverged, for which a smaller learning rate or optim_wrapper.clip_grad is '
    'the remedy, or its images are damaged',
}


@dataclass(frozen=True)
class Feature:
    """A recorded feature and where it is from.

    Args:
        role (str): ``'student'`` or ``'teacher'``.
        tap (str): Path of the module; of one that gives several tensors, with an index.
        value (Tensor): What was recorded.
    """

    role: str
    tap: str
    value: Tensor

    @property
    def is_finite(self) -> bool:
        """Whether there is no NaN and no infinity in it."""
        return bool(torch.isfinite(self.value).all())

    def __str__(self) -> str:
        kind = str(self.value.dtype).removeprefix('torch.')
        shape = tuple(self.value.shape)
        return f"{self.role} '{self.tap}' {shape} {kind}: {summarise(self.value)}"


def recorded_features(transfer: Transfer) -> list[Feature]:
    """Return what a transfer's recorders hold, stage by stage, shallow to deep.

    Args:
        transfer (Transfer): A transfer between its forward and its ``clear``.

    Returns:
        list[Feature]: The features, without their graph.
    """
    student = list(_features('student', transfer.student_recorder))
    teacher = list(_features('teacher', transfer.teacher_recorder))
    if len(student) != len(teacher):
        return [*student, *teacher]
    return [feature for pair in zip(student, teacher, strict=True) for feature in pair]


def _features(role: str, recorder: Recorder) -> Iterator[Feature]:
    for tap in recorder.taps:
        values = tap.features()
        for index, value in enumerate(values):
            name = tap.source if len(values) == 1 else f'{tap.source}[{index}]'
            yield Feature(role, name, value.detach())


def summarise(value: Tensor) -> str:
    """Return smallest, greatest and mean finite value, and how many are not finite.

    Args:
        value (Tensor): A tensor of any shape.

    Returns:
        str: Such as ``'min -1, max 2.5, mean 0.25, 0 of 64 not finite'``.
    """
    finite = value[torch.isfinite(value)]
    count = f'{value.numel() - finite.numel()} of {value.numel()} not finite'
    if not finite.numel():
        return count
    low, high, mean = (x.item() for x in (finite.min(), finite.max(), finite.mean()))
    return f'min {low:.4g}, max {high:.4g}, mean {mean:.4g}, {count}'


def describe_transfer(
    name: str, loss: Tensor, features: list[Feature], transfer: Transfer, iteration: int
) -> str:
    """Say what is wrong with a transfer whose loss is not finite.

    Args:
        name (str): Its name.
        loss (Tensor): Its loss.
        features (list[Feature]): What it compared.
        transfer (Transfer): The transfer, for the weights of its connector.
        iteration (int): Number of the iteration, counted from 1 as in the log.

    Returns:
        str: One line that names the cause, and one for each feature.
    """
    cause = _cause(features, transfer)
    head = f'transfers.{name}: the loss is {loss.mean().item()} in iteration {iteration}: {cause}'
    return '\n  '.join([head, *map(str, features)])


def _cause(features: list[Feature], transfer: Transfer) -> str:
    for feature in features:
        if not feature.is_finite:
            tap = f"the {feature.role}'s feature at the tap '{feature.tap}' is not finite"
            return f'{tap}; {ADVICE[feature.role]}. The features, shallow to deep:'
    for path, weight in transfer.named_parameters():
        if not torch.isfinite(weight).all():
            return f'the features are finite, but {path} is not:'
    return 'all features are finite, but not what the connector or the loss made of them:'
