"""How losses on one vector an image read it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.losses.checks import full_precision


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
