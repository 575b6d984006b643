"""Decoupled knowledge distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reviewkd_mm.models.losses.checks import check_loss_weight
from reviewkd_mm.models.losses.samples import class_labels
from reviewkd_mm.models.losses.settings import check_factor, check_positive
from reviewkd_mm.models.losses.vectors import logit_pair
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class DKDLoss(nn.Module):
    """Decoupled knowledge distillation (DKD): ``tau^2 * (alpha * TCKD + beta * NCKD)``.

    Of the softened predictions, TCKD compares the probability of the true class against all the
    others together, and NCKD the distribution among these others: both are
    ``KL(teacher || student)``, averaged over the batch. Ordinary logit distillation is
    ``TCKD + (1 - p) * NCKD`` where p is the teacher's probability of the true class. From
    "Decoupled Knowledge Distillation" (CVPR 2022, arXiv 2203.08679), eq. 7; the authors' code
    warms it up over 20 epochs, which is ``warmup_epochs=20`` of the transfer.

    Args:
        alpha (float): Factor of TCKD. Defaults to 1.0.
        beta (float): Factor of NCKD. Defaults to 8.0.
        tau (float): Temperature, greater than 0. Defaults to 4.0.
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If the temperature is not positive or a factor is negative, or either is not
            finite.
    """

    def __init__(
        self, alpha: float = 1.0, beta: float = 8.0, tau: float = 4.0, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.alpha = check_factor('alpha', alpha)
        self.beta = check_factor('beta', beta)
        self.tau = check_positive('tau', tau)
        self.loss_weight = check_loss_weight(loss_weight)

    def forward(
        self,
        student_logits: Tensor | Sequence[Tensor],
        teacher_logits: Tensor | Sequence[Tensor],
        data_samples: Sequence[Any] | None = None,
    ) -> Tensor:
        """Compare two sets of logits, knowing the true classes.

        Args:
            student_logits (Tensor | Sequence[Tensor]): Logits (N, C) or (N, C, 1, 1), or a list
                of one such tensor.
            teacher_logits (Tensor | Sequence[Tensor]): Logits of the teacher, likewise.
            data_samples (Sequence, optional): The N samples, whose ``gt_label`` is read: without
                them there is an error. Defaults to None.

        Returns:
            Tensor: The loss, a 0-d tensor in at least single precision.

        Raises:
            ValueError: If a list has not one tensor, a tensor is no logits of two classes or
                more, shapes differ, or an image has not one label.
        """
        student, teacher = logit_pair(student_logits, teacher_logits)
        labels = class_labels(data_samples, student)
        (s_target, s_others), (t_target, t_others) = (
            _decouple(logits / self.tau, labels) for logits in (student, teacher)
        )
        tckd = F.kl_div(s_target, t_target, reduction='batchmean', log_target=True)
        nckd = F.kl_div(s_others, t_others, reduction='batchmean', log_target=True)
        return self.loss_weight * self.tau**2 * (self.alpha * tckd + self.beta * nckd)

    def extra_repr(self) -> str:
        return (
            f'alpha={self.alpha}, beta={self.beta}, tau={self.tau}, loss_weight={self.loss_weight}'
        )


def _decouple(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities (N, 2) of the true class or not, (N, C - 1) among the others."""
    labels = labels[:, None]
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, others + (others >= labels))
    sides = torch.cat([logits.gather(1, labels), others.logsumexp(1, keepdim=True)], dim=1)
    return sides.log_softmax(dim=1), others.log_softmax(dim=1)
