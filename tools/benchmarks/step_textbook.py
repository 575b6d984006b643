"""ABF and HCL as their equations are written: what the package's own form is measured against.

From "Distilling Knowledge via Knowledge Review" (CVPR 2021, arXiv 2104.09044).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reviewkd_mm.models.connectors import ReviewConnector


class TextbookReview(nn.Module):
    """The review mechanism, an operation for each one in the equations.

    Args:
        connector (ReviewConnector): Whose convolutions and norms are copied.
    """

    def __init__(self, connector: ReviewConnector) -> None:
        super().__init__()
        abfs = connector.abfs
        self.reduce = nn.ModuleList(_conv_norm(abf.conv1) for abf in abfs)
        self.expand = nn.ModuleList(_conv_norm(abf.conv2) for abf in abfs)
        # The deepest stage has nothing to attend to.
        self.attend = nn.ModuleList(copy.deepcopy(abf.att_conv) for abf in abfs[:-1])
        self.to(memory_format=torch.contiguous_format)

    def forward(self, features: Sequence[Tensor], sizes: Sequence[Sequence[int]]) -> list[Tensor]:
        """Map the student's features, deepest first.

        Args:
            features (Sequence[Tensor]): Student features (N, C_i, H_i, W_i), shallow to deep.
            sizes (Sequence[Sequence[int]]): (H, W) of each teacher feature.

        Returns:
            list[Tensor]: Features of the teacher's shapes, shallow to deep.
        """
        deepest = len(features) - 1
        residual = _resize(self.reduce[deepest](features[deepest]), sizes[deepest])
        outputs = [self.expand[deepest](residual)]
        for stage in range(deepest - 1, -1, -1):
            x = self.reduce[stage](features[stage])
            residual = _resize(residual, x.shape[2:])
            maps = torch.sigmoid(self.attend[stage](torch.cat((x, residual), dim=1)))
            x = x * maps[:, 0:1] + residual * maps[:, 1:2]
            residual = _resize(x, sizes[stage])
            outputs.append(self.expand[stage](residual))
        return outputs[::-1]


def textbook_hcl(
    student: Sequence[Tensor], teacher: Sequence[Tensor], levels: Sequence[int] = (4, 2, 1)
) -> Tensor:
    """Compare the features of all stages, pooling each of the two for every level.

    Args:
        student (Sequence[Tensor]): The student's features (N, C_i, H_i, W_i) after the connector.
        teacher (Sequence[Tensor]): The teacher's, of the same shapes.
        levels (Sequence[int]): Side lengths of the pooled features. Defaults to (4, 2, 1).

    Returns:
        Tensor: The loss, a 0-d tensor.
    """
    return sum(_stage_loss(f, t, levels) for f, t in zip(student, teacher, strict=True))


def _stage_loss(student: Tensor, teacher: Tensor, levels: Sequence[int]) -> Tensor:
    used = [level for level in levels if level < student.shape[2]]
    weights = [0.5**power for power in range(len(used) + 1)]
    losses = [F.mse_loss(student, teacher)]
    for level in used:
        pooled = (F.adaptive_avg_pool2d(feature, level) for feature in (student, teacher))
        losses.append(F.mse_loss(*pooled))
    return sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)


def _conv_norm(module: nn.Module) -> nn.Sequential:
    return nn.Sequential(copy.deepcopy(module.conv), copy.deepcopy(module.norm))


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode='nearest')
