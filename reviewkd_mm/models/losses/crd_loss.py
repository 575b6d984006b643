"""Contrastive representation distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.losses.checks import check_loss_weight
from reviewkd_mm.models.losses.memory_bank import MemoryBank
from reviewkd_mm.models.losses.samples import class_labels, sample_indices
from reviewkd_mm.models.losses.settings import check_factor, check_positive
from reviewkd_mm.models.losses.vectors import one_vector
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class CRDLoss(nn.Module):
    """Contrastive representation distillation (CRD).

    Student and teacher features are each embedded by a trained linear layer and normalised to
    length 1. The student's embedding of an image must be told by its product with the teacher's
    embedding of the same image, as remembered from the last epoch, from ``num_negatives`` of
    other images; and likewise the teacher's among the student's. From "Contrastive
    Representation Distillation" (ICLR 2020, arXiv 1910.10699), with the settings of the authors'
    code, whose weight is 0.8.

    The negatives are drawn anew for each image, none twice. With ``class_aware`` they are of
    other classes than the image, as far as labels were seen (a label is known from the image's
    first batch on) and there are as many of them. What is remembered is saved in checkpoints. In
    distributed training all processes need batches of the same size.

    Args:
        in_channels (int | Sequence[int]): Channels of the student feature, or a list of them;
            inferred in a transfer.
        out_channels (int | Sequence[int]): Channels of the teacher feature, likewise.
        num_samples (int): Length of the training set.
        embed_channels (int): Length of the embeddings. Defaults to 128.
        num_negatives (int): Number of other images that an image is told from, below
            ``num_samples``. Defaults to 16384.
        tau (float): Temperature, greater than 0. Defaults to 0.07.
        momentum (float): Share of what is remembered when an image is seen again, in [0, 1].
            Defaults to 0.5.
        class_aware (bool): Whether negatives are of other classes. Defaults to True.
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If a setting is out of range, or there is not one feature.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int | Sequence[int],
        num_samples: int,
        embed_channels: int = 128,
        num_negatives: int = 16384,
        tau: float = 0.07,
        momentum: float = 0.5,
        class_aware: bool = True,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive('tau', tau)
        if check_factor('momentum', momentum) > 1:
            raise ConfigError(f'momentum={momentum}: expected a number in [0, 1]')
        check_positive('num_samples', num_samples)
        if check_positive('num_negatives', num_negatives) >= num_samples:
            raise ConfigError(
                f'num_negatives={num_negatives}: expected at least 1 and less than the length of '
                f'the training set, num_samples={num_samples}'
            )
        self.num_samples = num_samples
        self.num_negatives = num_negatives
        self.class_aware = class_aware
        self.loss_weight = check_loss_weight(loss_weight)
        self.embed_student = nn.Linear(_one('in_channels', in_channels), embed_channels)
        self.embed_teacher = nn.Linear(_one('out_channels', out_channels), embed_channels)
        self.student_bank = MemoryBank(num_samples, embed_channels, momentum, tau)
        self.teacher_bank = MemoryBank(num_samples, embed_channels, momentum, tau)
        if class_aware:
            self.register_buffer('labels', torch.full((num_samples,), -1))

    def forward(
        self,
        student_features: Tensor | Sequence[Tensor],
        teacher_features: Tensor | Sequence[Tensor],
        data_samples: Sequence[Any] | None = None,
    ) -> Tensor:
        """Contrast a batch with what is remembered, and in training remember it.

        Args:
            student_features (Tensor | Sequence[Tensor]): Feature (N, C) or (N, C, 1, 1) of the
                student, or a list of one such tensor.
            teacher_features (Tensor | Sequence[Tensor]): Feature of the teacher, likewise; its
                channels may be others.
            data_samples (Sequence, optional): The N samples, whose ``sample_idx`` and, with
                ``class_aware``, ``gt_label`` are read: without them there is an error. Defaults
                to None.

        Returns:
            Tensor: The loss, a 0-d tensor in at least single precision.

        Raises:
            ValueError: If a list has not one tensor, a tensor is no vector an image, or a sample
                lacks its index or its label.
        """
        student = one_vector('student features', student_features)
        teacher = one_vector('teacher features', teacher_features)
        indices = sample_indices(data_samples, student, self.num_samples)
        labels = class_labels(data_samples, student) if self.class_aware else None
        # Exponentials of products over 0.07 are not for half precision.
        with torch.autocast(student.device.type, enabled=False):
            student = _embed(self.embed_student, student)
            teacher = _embed(self.embed_teacher, teacher)
            candidates = torch.cat([indices[:, None], self._negatives(indices, labels)], dim=1)
            loss = self.teacher_bank.contrast(student, candidates)
            loss = loss + self.student_bank.contrast(teacher, candidates)
        if self.training:
            self._remember(indices, student, teacher, labels)
        return self.loss_weight * loss

    @torch.no_grad()
    def _negatives(self, indices: Tensor, labels: Tensor | None) -> Tensor:
        """Draw the indices (N, num_negatives) of other images: those of the largest numbers."""
        numbers = torch.rand(len(indices), self.num_samples, device=indices.device)
        if labels is not None:
            numbers.masked_fill_(self.labels == labels[:, None], -1)
        numbers.scatter_(1, indices[:, None], -2)
        return numbers.topk(self.num_negatives, sorted=False).indices

    @torch.no_grad()
    def _remember(
        self, indices: Tensor, student: Tensor, teacher: Tensor, labels: Tensor | None
    ) -> None:
        indices = _of_all_processes(indices)
        self.student_bank.update(indices, _of_all_processes(student))
        self.teacher_bank.update(indices, _of_all_processes(teacher))
        if labels is not None:
            self.labels.index_copy_(0, indices, _of_all_processes(labels))

    def extra_repr(self) -> str:
        return (
            f'num_samples={self.num_samples}, num_negatives={self.num_negatives}, '
            f'class_aware={self.class_aware}, loss_weight={self.loss_weight}'
        )


def _embed(layer: nn.Linear, feature: Tensor) -> Tensor:
    return F.normalize(layer(feature.to(layer.weight.dtype)), dim=1)


def _of_all_processes(x: Tensor) -> Tensor:
    return torch.cat(all_gather(x))


def _one(key: str, channels: int | Sequence[int]) -> int:
    if not isinstance(channels, Sequence):
        return channels
    if len(channels) != 1:
        raise ConfigError(f'{key}={list(channels)}: expected the channels of one feature')
    return channels[0]
