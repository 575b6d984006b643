"""Attention transfer."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from reviewkd_mm.models.losses.checks import check_loss_weight, full_precision
from reviewkd_mm.models.losses.settings import check_positive
from reviewkd_mm.models.losses.stages import check_stages
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class AttentionTransferLoss(nn.Module):
    """Attention transfer (AT): where features are strong, whatever their channels.

    A feature's attention map is the mean of ``|f|^p`` over the channels, flattened and
    normalised to length 1. Each stage gives the mean squared difference of the two maps; the
    stages are summed. Where sizes differ, the larger feature, by height and then by width, is
    average-pooled to the size of the other. From "Paying More Attention to Attention" (ICLR 2017,
    arXiv 1612.03928), eq. 2; with a mean in place of the norm and without the factor 1/2, as the
    authors' code has it.

    Args:
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        p (float): Exponent, greater than 0. Defaults to 2.

    Raises:
        ValueError: If the weight is negative or the exponent is not positive, or either is not
            finite.

    Examples:
        >>> loss = AttentionTransferLoss()
        >>> loss([torch.ones(2, 16, 8, 8)], [torch.ones(2, 32, 8, 8)])
        tensor(0.)
    """

    def __init__(self, loss_weight: float = 1.0, p: float = 2) -> None:
        super().__init__()
        self.loss_weight = check_loss_weight(loss_weight)
        self.p = check_positive('p', p)

    def forward(
        self, student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]
    ) -> Tensor:
        """Compare the attention maps stage by stage.

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
        return self.loss_weight * sum(self._compare(s, t) for s, t in stages)

    def _compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        student, teacher = full_precision(student), full_precision(teacher)
        # By height, then by width.
        if student.shape[-2:] > teacher.shape[-2:]:
            student = F.adaptive_avg_pool2d(student, teacher.shape[-2:])
        elif student.shape[-2:] < teacher.shape[-2:]:
            teacher = F.adaptive_avg_pool2d(teacher, student.shape[-2:])
        return F.mse_loss(self._attention(student), self._attention(teacher))

    def _attention(self, feature: Tensor) -> Tensor:
        return F.normalize(feature.abs().pow(self.p).mean(dim=1).flatten(1), dim=1)

    def extra_repr(self) -> str:
        return f'loss_weight={self.loss_weight}, p={self.p}'
