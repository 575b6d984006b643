"""Checks and casts that every loss shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.losses.settings import check_factor


def check_loss_weight(loss_weight: float) -> float:
    """Return the weight if it is a finite number that is not negative.

    Args:
        loss_weight (float): Factor of a loss.

    Returns:
        float: The weight.

    Raises:
        ValueError: If it is anything else.
    """
    return check_factor('loss_weight', loss_weight)


def check_pairs(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    """Check that student and teacher features pair up in number and shape.

    Args:
        student (Sequence[Tensor]): The student's features, shallow to deep.
        teacher (Sequence[Tensor]): The teacher's features, shallow to deep.

    Raises:
        ValueError: If they do not, with the stage that differs.
    """
    if not student or len(student) != len(teacher):
        raise ConfigError(
            f'expected as many student as teacher features, at least one: got {len(student)} '
            f'and {len(teacher)}'
        )
    for stage, (s, t) in enumerate(zip(student, teacher, strict=True)):
        if s.shape != t.shape:
            raise ConfigError(
                f'stage {stage}: the student feature has shape {tuple(s.shape)}, the teacher '
                f"feature {tuple(t.shape)}; a connector must map the student's onto the teacher's"
            )


def full_precision(x: Tensor) -> Tensor:
    """Cast half-precision tensors to float32: a mean of squares overflows fp16.

    Args:
        x (Tensor): A tensor of any shape.

    Returns:
        Tensor: The tensor in at least single precision.
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
