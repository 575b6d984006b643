"""Augmentations depend on the seed, the epoch and the batch, and on nothing else."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.datasets import BaseDataset
from torch.utils.data import DataLoader

from reviewkd_mm.datasets.batched_pipeline import BatchedPipeline
from reviewkd_mm.datasets.seeded_batches import SeededBatches


class Draw(BaseTransform):
    """Add numbers of all three generators."""

    def transform(self, results: dict) -> dict:
        results['drawn'] = (random.random(), np.random.random(), float(torch.rand(())))
        return results


class Numbers(BaseDataset):
    """Six samples."""

    def __init__(self) -> None:
        super().__init__(ann_file='', pipeline=[Draw()])

    def load_data_list(self) -> list[dict]:
        return [dict(number=index) for index in range(6)]


class Batched(BatchedPipeline, Numbers):
    """Likewise, asked for a batch at once."""


def epochs(dataset: BaseDataset, seed: int = 1, first: int = 0, workers: int = 0) -> list[list]:
    batches = SeededBatches.install(dataset, seed)
    loader = DataLoader(
        dataset,
        batch_size=2,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=lambda samples: [sample['drawn'] for sample in samples],
    )
    drawn = []
    for epoch in range(first, 3):
        batches.epoch = epoch
        drawn.append([numbers for batch in loader for numbers in batch])
    return drawn


@pytest.fixture(scope='module')
def expected() -> list[list]:
    return epochs(Numbers())


def test_no_two_samples_and_no_two_epochs_draw_the_same(expected):
    numbers = [number for epoch in expected for drawn in epoch for number in drawn]

    assert len(set(numbers)) == len(numbers) == 3 * 6 * 3


def test_another_seed_draws_others(expected):
    assert epochs(Numbers(), seed=2) != expected


def test_persistent_workers_draw_the_same(expected):
    assert epochs(Numbers(), workers=2) == expected


def test_an_epoch_needs_not_those_before(expected):
    assert epochs(Numbers(), first=2, workers=1) == expected[2:]


def test_a_batch_at_once_draws_from_its_seed_too(expected):
    assert epochs(Batched()) == expected


def test_the_generators_of_the_process_are_left_as_they_were():
    dataset = Numbers()
    batches = SeededBatches.install(dataset, 1)
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)

    batches([0, 1])

    assert torch.equal(torch.rand(1), wanted)


def test_installing_twice_is_installing_once():
    dataset = Numbers()
    first = SeededBatches.install(dataset, 1)

    assert SeededBatches.install(dataset, 2) is first
    assert first.seed == 2
