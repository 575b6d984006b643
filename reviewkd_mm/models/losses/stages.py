"""Losses that compare stages whose shapes may differ."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from reviewkd_mm.errors import ConfigError


def check_stages(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    """Check that student and teacher have as many features, maps of as many images.

    Args:
        student (Sequence[Tensor]): The student's features, shallow to deep.
        teacher (Sequence[Tensor]): The teacher's features, shallow to deep.

    Raises:
        ValueError: If they have not, with the stage that differs.
    """
    if not student or len(student) != len(teacher):
        raise ConfigError(
            f'expected as many student as teacher features, at least one: got {len(student)} '
            f'and {len(teacher)}'
        )
    for stage, (s, t) in enumerate(zip(student, teacher, strict=True)):
        if s.dim() != 4 or t.dim() != 4 or len(s) != len(t):
            raise ConfigError(
                f'stage {stage}: the student feature has shape {tuple(s.shape)}, the teacher '
                f'feature {tuple(t.shape)}; expected (N, C, H, W) of the same N'
            )
