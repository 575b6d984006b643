"""What losses read from the samples of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from reviewkd_mm.errors import ConfigError

# Samples are Python objects that differ in every step: a compiler is given the tensors alone.


@torch.compiler.disable
def class_labels(data_samples: Sequence[Any] | None, like: Tensor) -> Tensor:
    """Return the class of each image.

    Args:
        data_samples (Sequence, optional): Samples with ``gt_label``, as MMPretrain's.
        like (Tensor): A tensor (N, ...) of the batch, on the device that is wanted.

    Returns:
        Tensor: Labels (N,) of dtype int64.

    Raises:
        ValueError: If there is no sample of each image, one has no label or several, or labels
            were mixed.
    """
    _check_count(data_samples, len(like))
    if any('gt_score' in sample for sample in data_samples):
        raise ConfigError(
            'the samples have gt_score, the soft labels that Mixup and CutMix make: expected one '
            'class an image. Leave batch_augments and to_onehot out of the data_preprocessor'
        )
    labels = [sample.get('gt_label') for sample in data_samples]
    for label in labels:
        if not isinstance(label, Tensor) or label.numel() != 1:
            raise ConfigError(
                f'a sample has gt_label={label!r}: expected one class an image, as the data sets '
                'and PackInputs of MMPretrain give it'
            )
    return torch.cat([label.view(1) for label in labels]).to(like.device, non_blocking=True)


@torch.compiler.disable
def sample_indices(data_samples: Sequence[Any] | None, like: Tensor, length: int) -> Tensor:
    """Return the place of each image in the data set.

    Args:
        data_samples (Sequence, optional): Samples with ``sample_idx``, which MMEngine's data sets
            and MMPretrain's ``PackInputs`` give.
        like (Tensor): A tensor (N, ...) of the batch, on the device that is wanted.
        length (int): The length of the data set.

    Returns:
        Tensor: Indices (N,) of dtype int64.

    Raises:
        ValueError: If there is no sample of each image, or one has no index in the data set.
    """
    _check_count(data_samples, len(like))
    indices = [sample.get('sample_idx') for sample in data_samples]
    for index in indices:
        if not isinstance(index, Integral):
            raise ConfigError(
                f'a sample has sample_idx={index!r}: expected its index in the data set. Add '
                "'sample_idx' to the meta_keys of PackInputs in the training pipeline"
            )
        if not 0 <= index < length:
            raise ConfigError(
                f'a sample has sample_idx={index}, but num_samples={length}: expected '
                'num_samples to be the length of the training set'
            )
    return torch.tensor(indices).to(like.device, non_blocking=True)


class OneLabelCheck:
    """See in each step that every image has one label, as a softmax over the classes expects.

    Of several labels each has a sigmoid of its own: logits that are all higher by 5 are other
    probabilities, but the same softmax. Samples without labels of images, as a detector's, pass,
    and so do labels that Mixup and CutMix mixed. Soft labels without a ``gt_label`` are read in
    the first step alone, since a GPU has to be waited for.
    """

    def __init__(self) -> None:
        self._reads_scores = True

    @torch.compiler.disable
    def __call__(self, data_samples: Sequence[Any] | None) -> None:
        """Check the samples of a batch.

        Args:
            data_samples (Sequence, optional): Samples, with ``gt_label`` or ``gt_score`` if they
                are as MMPretrain's.

        Raises:
            ValueError: If one has several labels, or none.
        """
        if not isinstance(data_samples, Sequence):
            return
        samples = [sample for sample in data_samples if isinstance(sample, BaseDataElement)]
        labels = [sample.get('gt_label') for sample in samples]
        counts = [label.numel() for label in labels if isinstance(label, Tensor)]
        if not counts and self._reads_scores:
            scores = [sample.gt_score for sample in samples if 'gt_score' in sample]
            counts = [round(score.sum().item(), 2) for score in scores]
            self._reads_scores = not scores
        for count in counts:
            if count != 1:
                raise ConfigError(
                    f'an image has {count} labels, whose probabilities a softmax over the classes '
                    'does not compare: expected one label an image, or '
                    'KLDivergence(use_sigmoid=True)'
                )


def _check_count(data_samples: Sequence[Any] | None, count: int) -> None:
    if data_samples is None or len(data_samples) != count:
        given = 'none' if data_samples is None else len(data_samples)
        raise ConfigError(f'expected a data sample of each of {count} images, got {given}')
