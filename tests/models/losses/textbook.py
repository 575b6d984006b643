"""HCL written straight from its equation, slow and plain, without the package's code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pool(x: Tensor, level: int) -> Tensor:
    """Means over ``level`` x ``level`` windows, which overlap where the size does not divide."""

    def windows(length: int) -> list[slice]:
        return [slice(i * length // level, -(-(i + 1) * length // level)) for i in range(level)]

    rows = [
        torch.stack([x[:, :, top, left].mean(dim=(2, 3)) for left in windows(x.shape[3])], dim=2)
        for top in windows(x.shape[2])
    ]
    return torch.stack(rows, dim=2)


def hcl(
    student: Sequence[Tensor], teacher: Sequence[Tensor], levels: Sequence[int] = (4, 2, 1)
) -> Tensor:
    """Sum over the stages of weighted mean squared errors over a pyramid of pooled features."""
    stages = []
    for f, t in zip(student, teacher, strict=True):
        loss, weight, total = ((f - t) ** 2).mean(), 1.0, 1.0
        for level in levels:
            if level < f.shape[2]:
                weight = weight / 2
                loss = loss + weight * ((pool(f, level) - pool(t, level)) ** 2).mean()
                total = total + weight
        stages.append(loss / total)
    return torch.stack(stages).sum()
