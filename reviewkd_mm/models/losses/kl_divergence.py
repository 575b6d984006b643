"""Logit distillation."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from reviewkd_mm.models.losses.checks import check_loss_weight, check_pairs
from reviewkd_mm.models.losses.settings import check_positive
from reviewkd_mm.models.losses.vectors import one_vector
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class KLDivergence(nn.Module):
    """Kullback-Leibler divergence of softened logits: ``tau^2 * KL(teacher || student)``.

    Averaged over the batch. From "Distilling the Knowledge in a Neural Network"
    (arXiv 1503.02531).

    Args:
        tau (float): Temperature, greater than 0. Defaults to 4.0.
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If the temperature is not positive or the weight is negative, or either is
            not finite.

    Examples:
        >>> KLDivergence()(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]))
        tensor(0.)
    """

    def __init__(self, tau: float = 4.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.tau = check_positive('tau', tau)
        self.loss_weight = check_loss_weight(loss_weight)

    def forward(
        self,
        student_logits: Tensor | Sequence[Tensor],
        teacher_logits: Tensor | Sequence[Tensor],
    ) -> Tensor:
        """Compare two sets of logits.

        Args:
            student_logits (Tensor | Sequence[Tensor]): Logits (N, C) or (N, C, 1, 1), or a list
                of one such tensor.
            teacher_logits (Tensor | Sequence[Tensor]): Logits of the teacher, likewise.

        Returns:
            Tensor: The loss, a 0-d tensor in at least single precision.

        Raises:
            ValueError: If a list has not one tensor, a tensor is no logits, or shapes differ.
        """
        student = one_vector('student logits', student_logits)
        teacher = one_vector('teacher logits', teacher_logits)
        check_pairs([student], [teacher])
        loss = F.kl_div(
            F.log_softmax(student / self.tau, dim=1),
            F.log_softmax(teacher / self.tau, dim=1),
            reduction='batchmean',
            log_target=True,
        )
        return self.loss_weight * self.tau**2 * loss

    def extra_repr(self) -> str:
        return f'tau={self.tau}, loss_weight={self.loss_weight}'
