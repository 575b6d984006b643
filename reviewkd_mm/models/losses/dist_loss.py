"""Distillation from a stronger teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from reviewkd_mm.models.losses.checks import check_loss_weight
from reviewkd_mm.models.losses.samples import OneLabelCheck
from reviewkd_mm.models.losses.settings import check_factor, check_positive
from reviewkd_mm.models.losses.vectors import logit_pair
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class DISTLoss(nn.Module):
    """Distillation from a stronger teacher (DIST): correlations in place of equal values.

    ``tau^2 * (beta * inter + gamma * intra)`` of the softened predictions (N, C), where inter is
    1 - Pearson's correlation over the classes, averaged over the images, and intra that over the
    images, averaged over the classes. From "Knowledge Distillation from A Stronger Teacher"
    (NeurIPS 2022, arXiv 2205.10536); the factor tau^2 is in the authors' code alone.
    One image by itself has no correlation: intra is then 1, with no gradient.

    Args:
        beta (float): Factor of the relation between classes. Defaults to 2.0.
        gamma (float): Factor of the relation within a class. Defaults to 2.0.
        tau (float): Temperature, greater than 0. Defaults to 4.0.
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If the temperature is not positive or a factor is negative, or either is not
            finite.
    """

    def __init__(
        self, beta: float = 2.0, gamma: float = 2.0, tau: float = 4.0, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.beta = check_factor('beta', beta)
        self.gamma = check_factor('gamma', gamma)
        self.tau = check_positive('tau', tau)
        self.loss_weight = check_loss_weight(loss_weight)
        self._check_labels = OneLabelCheck()

    def forward(
        self,
        student_logits: Tensor | Sequence[Tensor],
        teacher_logits: Tensor | Sequence[Tensor],
        data_samples: Sequence[Any] | None = None,
    ) -> Tensor:
        """Compare two sets of logits.

        Args:
            student_logits (Tensor | Sequence[Tensor]): Logits (N, C) or (N, C, 1, 1), or a list
                of one such tensor.
            teacher_logits (Tensor | Sequence[Tensor]): Logits of the teacher, likewise.
            data_samples (Sequence, optional): The samples, of whose images none may have several
                labels. Defaults to None.

        Returns:
            Tensor: The loss, a 0-d tensor in at least single precision.

        Raises:
            ValueError: If a list has not one tensor, a tensor is no logits of two classes or
                more, shapes differ, or an image has not one label.
        """
        student, teacher = logit_pair(student_logits, teacher_logits)
        self._check_labels(data_samples)
        student, teacher = ((x / self.tau).softmax(dim=1) for x in (student, teacher))
        inter = 1 - _correlation(student, teacher, dim=1).mean()
        intra = 1 - _correlation(student, teacher, dim=0).mean()
        return self.loss_weight * self.tau**2 * (self.beta * inter + self.gamma * intra)

    def extra_repr(self) -> str:
        return (
            f'beta={self.beta}, gamma={self.gamma}, tau={self.tau}, loss_weight={self.loss_weight}'
        )


def _correlation(x: Tensor, y: Tensor, dim: int) -> Tensor:
    centred = (z - z.mean(dim, keepdim=True) for z in (x, y))
    return F.cosine_similarity(*centred, dim=dim)
