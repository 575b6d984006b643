"""How losses on one vector an image read it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.losses.checks import check_pairs, full_precision


def one_vector(name: str, value: Tensor | Sequence[Tensor]) -> Tensor:
    """Return one vector an image in at least single precision.

    Args:
        name (str): What an error message calls it, such as ``'student logits'``.
        value (Tensor | Sequence[Tensor]): Vectors (N, C) or (N, C, 1, 1), or a list of one such
            tensor.

    Returns:
        Tensor: The vectors (N, C).

    Raises:
        ValueError: If a list has not one tensor, or a tensor is no vector an image.
    """
    if not isinstance(value, Tensor):
        if len(value) != 1:
            raise ConfigError(f'expected one {name} tensor, got {len(value)}')
        value = value[0]
    if value.dim() == 2 or (value.dim() == 4 and value.shape[-2:] == (1, 1)):
        return full_precision(value.flatten(1))
    raise ConfigError(f'expected {name} of shape (N, C) or (N, C, 1, 1), got {tuple(value.shape)}')


def logit_pair(
    student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor], min_classes: int = 2
) -> tuple[Tensor, Tensor]:
    """Return the logits of student and teacher in at least single precision.

    Args:
        student (Tensor | Sequence[Tensor]): Logits (N, C) or (N, C, 1, 1), or a list of one such
            tensor.
        teacher (Tensor | Sequence[Tensor]): Logits of the teacher, likewise.
        min_classes (int): The least C. Defaults to 2, since a softmax over one class is 1 for any
            logit.

    Returns:
        tuple[Tensor, Tensor]: The logits (N, C) of both.

    Raises:
        ValueError: If a list has not one tensor, a tensor is no logits of so many classes, or
            shapes differ.
    """
    student, teacher = one_vector('student logits', student), one_vector('teacher logits', teacher)
    check_pairs([student], [teacher])
    if student.shape[1] < min_classes:
        raise ConfigError(
            f'expected logits of {min_classes} classes or more, got {student.shape[1]}: a softmax '
            'over one class is 1 for any logit. KLDivergence(use_sigmoid=True) compares logits of '
            'a sigmoid'
        )
    return student, teacher
