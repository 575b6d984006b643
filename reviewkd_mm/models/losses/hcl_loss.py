"""The hierarchical context loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.losses.checks import check_loss_weight, check_pairs, full_precision
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class HCLLoss(nn.Module):
    """Hierarchical context loss (HCL): mean squared errors over a pyramid of pooled features.

    Each stage is compared at full size and pooled to every level that is smaller than its
    height. The full size weighs 1, each level that is used half of the one before, and the
    sum is divided by the sum of the weights. The stages are summed. From "Distilling Knowledge
    via Knowledge Review" (CVPR 2021, arXiv 2104.09044), as the authors' code computes it.

    Args:
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        levels (Sequence[int]): Side lengths in pixels to which features are pooled, in the
            order in which their weights fall. Defaults to (4, 2, 1).

    Raises:
        ValueError: If the weight is negative or not finite, or a level is no positive integer.

    Examples:
        >>> loss = HCLLoss(loss_weight=5.0)
        >>> loss([torch.ones(2, 16, 8, 8)], [torch.zeros(2, 16, 8, 8)])
        tensor(5.)
    """

    def __init__(self, loss_weight: float = 1.0, levels: Sequence[int] = (4, 2, 1)) -> None:
        super().__init__()
        if not isinstance(levels, Sequence) or not all(_is_level(level) for level in levels):
            raise ConfigError(f'levels={levels!r}: expected positive integers, such as (4, 2, 1)')
        self.loss_weight = check_loss_weight(loss_weight)
        self.levels = tuple(levels)

    def forward(
        self, student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]
    ) -> Tensor:
        """Compare the features stage by stage.

        Args:
            student_features (Sequence[Tensor]): Features (N, C_i, H_i, W_i) of the student,
                after the connector.
            teacher_features (Sequence[Tensor]): Features of the teacher, of the same shapes.

        Returns:
            Tensor: The loss, a 0-d tensor in at least single precision.

        Raises:
            ValueError: If numbers or shapes of the features differ, or they are no maps.
        """
        check_pairs(student_features, teacher_features)
        for feature in student_features:
            if feature.dim() != 4:
                raise ConfigError(f'expected features (N, C, H, W), got {tuple(feature.shape)}')
        stages = zip(student_features, teacher_features, strict=True)
        losses = [_StageLoss.apply(f, t, self.levels) for f, t in stages]
        return self.loss_weight * sum(losses)

    def extra_repr(self) -> str:
        return f'loss_weight={self.loss_weight}, levels={self.levels}'


class _StageLoss(Function):
    """HCL of one stage on one difference: pooling is linear, pool(f) - pool(t) = pool(f - t).

    A level is pooled from a smaller one where its cells tile that one evenly.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, levels: Sequence[int]) -> Tensor:
        difference = _difference(student, teacher)
        maps, sources, weights = [difference], [0], [1.0]
        tiled = 0  # The last map whose cells tile the difference evenly.
        for level in levels:
            if level >= difference.shape[-2]:
                continue
            source = tiled if _tiles_evenly(maps[tiled], level) else 0
            if _tiles_evenly(maps[source], level):
                tiled = len(maps)
            sources.append(source)
            maps.append(F.adaptive_avg_pool2d(maps[source], level))
            weights.append(weights[-1] / 2)
        ctx.save_for_backward(*maps)
        ctx.sources = sources
        # Factor of the sum of squares of each map.
        ctx.factors = [w / sum(weights) / m.numel() for w, m in zip(weights, maps, strict=True)]
        ctx.dtypes = student.dtype, teacher.dtype
        return sum(c * m.square().sum() for c, m in zip(ctx.factors, maps, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps = ctx.saved_tensors
        grads = [m * (2 * c * grad) for m, c in zip(maps, ctx.factors, strict=True)]
        for index in reversed(range(1, len(maps))):
            source = ctx.sources[index]
            pooled = torch.ops.aten._adaptive_avg_pool2d_backward(grads[index], maps[source])
            grads[source].add_(pooled)
        of_student, of_teacher = ctx.needs_input_grad[:2]
        student, teacher = ctx.dtypes
        return (
            grads[0].to(student) if of_student else None,
            -grads[0].to(teacher) if of_teacher else None,
            None,
        )


def _tiles_evenly(x: Tensor, level: int) -> bool:
    return all(size % level == 0 for size in x.shape[-2:])


def _difference(student: Tensor, teacher: Tensor) -> Tensor:
    wide = full_precision(student)
    return wide - teacher if wide is student else wide.sub_(teacher)


def _is_level(level: object) -> bool:
    return isinstance(level, int) and level > 0
