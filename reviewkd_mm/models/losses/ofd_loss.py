"""The loss of the overhaul of feature distillation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reviewkd_mm.models.losses.checks import check_loss_weight, check_pairs, full_precision
from reviewkd_mm.models.losses.stages import check_stages
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class OFDLoss(nn.Module):
    """Loss of the overhaul of feature distillation (OFD): partial L2 with a margin ReLU.

    For features before a ReLU. Of the teacher's, what is negative is raised to its channel's
    margin at the least, the mean of the channel's negative responses; the student is drawn there
    only from above, since anything below is cut off alike. Squared differences are summed over a
    feature, averaged over the batch and halved for each stage that a stage is shallower than the
    deepest. From "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019, arXiv
    1904.01866), whose authors weigh it 1e-3. The margin is taken from the batch. The authors'
    code computes the same expectation from the BatchNorm before the ReLU, as if its output were
    normal and nothing were added to it.

    Args:
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If the weight is negative or not finite.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = check_loss_weight(loss_weight)

    def forward(
        self, student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]
    ) -> Tensor:
        """Compare the features stage by stage.

        Args:
            student_features (Sequence[Tensor]): Features (N, C_i, H_i, W_i) of the student,
                before the ReLU and after the connector.
            teacher_features (Sequence[Tensor]): Features of the teacher, before the ReLU, of the
                same shapes.

        Returns:
            Tensor: The loss, a 0-d tensor in at least single precision.

        Raises:
            ValueError: If numbers or shapes of the features differ, or they are no maps.
        """
        check_pairs(student_features, teacher_features)
        check_stages(student_features, teacher_features)
        loss = 0
        for student, teacher in zip(student_features, teacher_features, strict=True):
            loss = loss / 2 + _partial_l2(full_precision(student), full_precision(teacher))
        return self.loss_weight * loss

    def extra_repr(self) -> str:
        return f'loss_weight={self.loss_weight}'


def _partial_l2(student: Tensor, teacher: Tensor) -> Tensor:
    target = teacher.maximum(_margins(teacher))
    counts = (student > target) | (target > 0)
    return ((student - target).square() * counts).sum() / len(student)


def _margins(teacher: Tensor) -> Tensor:
    """Return the mean negative response (1, C, 1, 1) of each channel, 0 where there is none."""
    dims = (0, 2, 3)
    total = teacher.clamp(max=0).sum(dims, keepdim=True)
    return total / (teacher < 0).sum(dims, keepdim=True).clamp(min=1)
