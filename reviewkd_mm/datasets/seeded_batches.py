"""Augmentations that depend on the seed, the epoch and the batch alone."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing import RawValue
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from reviewkd_mm.utils import forked_rng


class SeededBatches:
    """Let a data set draw the augmentations of each batch from a seed of its own.

    It takes the place of the data set's ``__getitems__``, which PyTorch's dataloader asks for the
    samples of a batch where there is one. The seed is made from that of the training, the epoch
    and the indices of the batch. So neither what was drawn before nor the number of workers, nor
    whether they persist, matters, and the generators of the process are left as they were.

    Args:
        dataset (Dataset): The data set.
        seed (int): The seed of the training.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self._get_batch = getattr(dataset, '__getitems__', None)
        # Shared with the workers: those that persist see the epoch change.
        self._epoch = RawValue('q', 0)

    @classmethod
    def install(cls, dataset: Dataset, seed: int) -> SeededBatches:
        """Seed the batches of a data set from now on.

        Args:
            dataset (Dataset): The data set, before any worker has a copy of it.
            seed (int): The seed of the training.

        Returns:
            SeededBatches: What seeds them, to be told the epoch.
        """
        installed = vars(dataset).get('__getitems__')
        if isinstance(installed, cls):
            installed.seed = seed
            return installed
        dataset.__getitems__ = cls(dataset, seed)
        return dataset.__getitems__

    @property
    def epoch(self) -> int:
        """The epoch, in the workers too."""
        return self._epoch.value

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.value = epoch

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a batch.

        Args:
            indices (Sequence[int]): Indices of the samples.

        Returns:
            list: One sample for each index, in this order.
        """
        with forked_rng(self._seed_of(indices)):
            if self._get_batch is None:
                return [self.dataset[index] for index in indices]
            return self._get_batch(indices)

    def _seed_of(self, indices: Sequence[int]) -> int:
        sequence = np.random.SeedSequence([self.seed, self.epoch, *map(int, indices)])
        return int(sequence.generate_state(1)[0])
