"""Similarity-preserving distillation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reviewkd_mm.models.losses.checks import check_loss_weight, full_precision
from reviewkd_mm.models.losses.stages import check_stages
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class SimilarityLoss(nn.Module):
    """Similarity-preserving distillation (SP): which images of a batch look alike.

    The similarities of a stage are the products of all pairs of flattened features, (N, N), each
    row normalised to length 1. The squared differences of the two matrices are summed and divided
    by N^2; the stages are summed. From "Similarity-Preserving Knowledge Distillation" (ICCV 2019,
    arXiv 1907.09682). A batch of one image gives 0.

    Args:
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If the weight is negative or not finite.

    Examples:
        >>> loss = SimilarityLoss()
        >>> loss([torch.eye(2).view(2, 2, 1, 1)], [torch.eye(2).view(2, 1, 2, 1)])
        tensor(0.)
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = check_loss_weight(loss_weight)

    def forward(
        self, student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]
    ) -> Tensor:
        """Compare the similarities stage by stage.

        Args:
            student_features (Sequence[Tensor]): Features (N, C_i, H_i, W_i) of the student.
            teacher_features (Sequence[Tensor]): Features of the teacher; channels and sizes may
                be others.

        Returns:
            Tensor: The loss, a 0-d tensor in at least single precision.

        Raises:
            ValueError: If the numbers of features or of images differ, or they are no maps.
        """
        check_stages(student_features, teacher_features)
        stages = zip(student_features, teacher_features, strict=True)
        losses = [F.mse_loss(_similarities(s), _similarities(t)) for s, t in stages]
        return self.loss_weight * sum(losses)

    def extra_repr(self) -> str:
        return f'loss_weight={self.loss_weight}'


def _similarities(feature: Tensor) -> Tensor:
    flat = full_precision(feature).flatten(1)
    # Products of whole maps overflow fp16, to which autocast would cast them.
    with torch.autocast(feature.device.type, enabled=False):
        return F.normalize(flat @ flat.T, dim=1)
