"""The hierarchical context loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

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
            raise ValueError(f'levels={levels!r}: expected positive integers, such as (4, 2, 1)')
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
                raise ValueError(f'expected features (N, C, H, W), got {tuple(feature.shape)}')
        stages = zip(student_features, teacher_features, strict=True)
        return self.loss_weight * sum(self._stage_loss(f, t) for f, t in stages)

    def _stage_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        # Pooling is linear, so one difference serves every level.
        difference = full_precision(student) - full_precision(teacher)
        loss, weight, total = difference.square().mean(), 1.0, 1.0
        for level in self.levels:
            if level >= difference.shape[-2]:
                continue
            weight /= 2
            total += weight
            loss = loss + weight * F.adaptive_avg_pool2d(difference, level).square().mean()
        return loss / total

    def extra_repr(self) -> str:
        return f'loss_weight={self.loss_weight}, levels={self.levels}'


def _is_level(level: object) -> bool:
    return isinstance(level, int) and level > 0
