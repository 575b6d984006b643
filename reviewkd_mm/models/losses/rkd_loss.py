"""Relational knowledge distillation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.losses.checks import check_loss_weight
from reviewkd_mm.models.losses.settings import check_factor
from reviewkd_mm.models.losses.vectors import one_vector
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class RKDLoss(nn.Module):
    """Relational knowledge distillation (RKD): distances and angles between the images of a batch.

    ``distance_weight`` times the smooth L1 loss of all pairs' distances, divided by their mean
    over the pairs that are apart, plus ``angle_weight`` times that of the cosines of all
    triplets' angles. From "Relational Knowledge Distillation" (CVPR 2019, arXiv 1904.05068).
    A batch of one image gives 0.

    Args:
        distance_weight (float): Factor of the distances. Defaults to 25.0.
        angle_weight (float): Factor of the angles. Defaults to 50.0.
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If a factor is negative or not finite.

    Examples:
        >>> triangle = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
        >>> RKDLoss()(triangle, 10 * triangle)
        tensor(0.)
    """

    def __init__(
        self,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.distance_weight = check_factor('distance_weight', distance_weight)
        self.angle_weight = check_factor('angle_weight', angle_weight)
        self.loss_weight = check_loss_weight(loss_weight)

    def forward(
        self,
        student_features: Tensor | Sequence[Tensor],
        teacher_features: Tensor | Sequence[Tensor],
    ) -> Tensor:
        """Compare the relations between the images.

        Args:
            student_features (Tensor | Sequence[Tensor]): Feature (N, C) or (N, C, 1, 1) of the
                student, or a list of one such tensor.
            teacher_features (Tensor | Sequence[Tensor]): Feature of the teacher, likewise; its
                channels may be others.

        Returns:
            Tensor: The loss, a 0-d tensor in at least single precision.

        Raises:
            ValueError: If a list has not one tensor, a tensor is no vector an image, or the
                numbers of images differ.
        """
        student = one_vector('student features', student_features)
        teacher = one_vector('teacher features', teacher_features)
        if len(student) != len(teacher):
            raise ConfigError(
                f'the student feature has shape {tuple(student.shape)}, the teacher feature '
                f'{tuple(teacher.shape)}; expected (N, C) of the same N'
            )
        # Half precision, to which autocast would cast the products, rounds angles away.
        with torch.autocast(student.device.type, enabled=False):
            (s_distances, s_angles), (t_distances, t_angles) = map(_relations, (student, teacher))
        distance = F.smooth_l1_loss(s_distances, t_distances)
        angle = F.smooth_l1_loss(s_angles, t_angles)
        return self.loss_weight * (self.distance_weight * distance + self.angle_weight * angle)

    def extra_repr(self) -> str:
        return (
            f'distance_weight={self.distance_weight}, angle_weight={self.angle_weight}, '
            f'loss_weight={self.loss_weight}'
        )


def _relations(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances (N, N) over their mean, and the cosines (N, N, N) of the angles."""
    differences = feature - feature[:, None]
    distances = differences.norm(dim=2)
    directions = differences / _or_one(distances)[..., None]
    # Without a choice of those that are apart: its size would have to be waited for.
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / _or_one(mean), directions @ directions.mT


def _or_one(x: Tensor) -> Tensor:
    return x.where(x > 0, 1)
