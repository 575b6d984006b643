"""Logit distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reviewkd_mm.models.losses.checks import check_loss_weight
from reviewkd_mm.models.losses.samples import OneLabelCheck
from reviewkd_mm.models.losses.settings import check_positive
from reviewkd_mm.models.losses.vectors import logit_pair
from reviewkd_mm.registry import MODELS
from reviewkd_mm.utils import check_bool


@MODELS.register_module()
class KLDivergence(nn.Module):
    """Kullback-Leibler divergence of softened logits: ``tau^2 * KL(teacher || student)``.

    Averaged over the batch. From "Distilling the Knowledge in a Neural Network"
    (arXiv 1503.02531). With ``use_sigmoid`` each logit is a prediction of its own, yes or no, as
    where an image has several labels: the divergences of all are summed.

    Args:
        tau (float): Temperature, greater than 0. Defaults to 4.0.
        loss_weight (float): Factor of the loss. Defaults to 1.0.
        use_sigmoid (bool): Whether the predictions are sigmoids in place of a softmax over the
            classes. Defaults to False.

    Raises:
        ValueError: If the temperature is not positive or the weight is negative, or either is
            not finite, or ``use_sigmoid`` is neither True nor False.

    Examples:
        >>> KLDivergence()(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]))
        tensor(0.)
    """

    def __init__(
        self, tau: float = 4.0, loss_weight: float = 1.0, use_sigmoid: bool = False
    ) -> None:
        super().__init__()
        self.tau = check_positive('tau', tau)
        self.loss_weight = check_loss_weight(loss_weight)
        self.use_sigmoid = check_bool('use_sigmoid', use_sigmoid)
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
                labels, unless ``use_sigmoid``. Defaults to None.

        Returns:
            Tensor: The loss, a 0-d tensor in at least single precision.

        Raises:
            ValueError: If a list has not one tensor, a tensor is no logits, shapes differ, or,
                unless ``use_sigmoid``, there is one class alone or an image has not one label.
        """
        min_classes = 1 if self.use_sigmoid else 2
        student, teacher = logit_pair(student_logits, teacher_logits, min_classes)
        if not self.use_sigmoid:
            self._check_labels(data_samples)
        loss = F.kl_div(
            self._log_probabilities(student),
            self._log_probabilities(teacher),
            reduction='batchmean',
            log_target=True,
        )
        return self.loss_weight * self.tau**2 * loss

    def extra_repr(self) -> str:
        return f'tau={self.tau}, loss_weight={self.loss_weight}, use_sigmoid={self.use_sigmoid}'

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        """Return those of the classes (N, C), or those of yes and of no of each (N, 2 C)."""
        logits = logits / self.tau
        if self.use_sigmoid:
            return F.logsigmoid(torch.cat([logits, -logits], dim=1))
        return logits.log_softmax(dim=1)
