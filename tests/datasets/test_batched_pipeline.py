"""Tests of batched crops and flips: they do what the transforms do one image at a time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform, RandomFlip
from mmengine.dataset import Compose
from mmpretrain.datasets import BaseDataset
from mmpretrain.datasets.transforms import PackInputs, RandomCrop

from reviewkd_mm.datasets.batched_pipeline import BatchedPipeline, split_pipeline

NUMBER = 8
SIZE = 6
DRAWS = 600


class Images(BatchedPipeline, BaseDataset):
    """Random images whose label is their index."""

    def __init__(self, transforms: list, **kwargs) -> None:
        super().__init__(ann_file='', pipeline=transforms, **kwargs)

    def load_data_list(self) -> list[dict]:
        rng = np.random.default_rng(0)
        images = rng.integers(1, 256, (NUMBER, SIZE, SIZE, 3), dtype=np.uint8)
        return [{'img': image, 'gt_label': label} for label, image in enumerate(images)]


class Refuse(BaseTransform):
    """Refuse the first sample that it sees."""

    def __init__(self) -> None:
        self.seen = 0

    def transform(self, results: dict) -> dict | None:
        self.seen += 1
        return None if self.seen == 1 else results


class OwnCrop(RandomCrop):
    """A subclass, which may do something else."""


class OwnFlip(RandomFlip):
    """A subclass, which may do something else."""


def usual() -> list[BaseTransform]:
    """Return the training pipeline of the CIFAR configs."""
    return [RandomCrop(SIZE, padding=1), RandomFlip(0.5, 'horizontal'), PackInputs()]


def describe(sample: dict) -> tuple:
    """Return what a sample is, to compare and to count."""
    meta = sample['data_samples'].metainfo
    assert sample['inputs'].dtype == torch.uint8
    return sample['inputs'].numpy().tobytes(), tuple(sample['inputs'].shape), *meta.items()


def describe_label(sample: dict) -> tuple:
    label = sample['data_samples'].gt_label
    return label.dtype, label.tolist()


@pytest.fixture
def without_the_transforms(monkeypatch):
    """Fail where a crop or a flip is done one image at a time."""

    def refuse(*args):
        raise AssertionError('one image at a time')

    monkeypatch.setattr(RandomCrop, 'transform', refuse)
    monkeypatch.setattr(RandomFlip, 'transform', refuse)


def test_the_usual_pipeline_is_batched(without_the_transforms):
    dataset = Images(usual())

    samples = dataset.__getitems__([5, 0, 5])

    assert [sample['data_samples'].gt_label.item() for sample in samples] == [5, 0, 5]
    assert all(sample['inputs'].shape == (3, SIZE, SIZE) for sample in samples)
    with pytest.raises(AssertionError, match='one image at a time'):
        dataset[0]


def test_every_crop_and_flip_is_as_likely_as_every_other():
    dataset = Images(usual())
    np.random.seed(0)

    one_by_one = {describe(dataset[3]) for _ in range(400)}
    batched = Counter(map(describe, dataset.__getitems__([3] * 3600)))

    # 3 offsets down, 3 to the right, flipped or not; 200 times each on average.
    assert len(one_by_one) == 18
    assert set(batched) == one_by_one
    assert sum((count - 200) ** 2 / 200 for count in batched.values()) < 50


def test_labels_are_those_of_the_transforms():
    dataset = Images(usual())

    batched = dataset.__getitems__(range(NUMBER))

    assert [describe_label(sample) for sample in batched] == [
        describe_label(dataset[index]) for index in range(NUMBER)
    ]


@pytest.mark.parametrize(
    'transforms',
    [
        [RandomCrop(4)],
        [RandomCrop((3, 5), padding=2)],
        [RandomCrop(9)],
        [RandomFlip(0.25, 'vertical')],
        [RandomFlip(0.75, 'diagonal')],
        [RandomFlip(1.0)],
        [RandomFlip(0.0)],
        [RandomFlip(0.5), RandomCrop(5)],
    ],
    ids=str,
)
def test_the_same_samples_come_out_for_other_settings(transforms, monkeypatch):
    dataset = Images([*transforms, PackInputs()])
    np.random.seed(0)

    one_by_one = Counter(describe(dataset[0]) for _ in range(DRAWS))
    batched = Counter(describe(sample) for sample in dataset.__getitems__([0] * DRAWS))

    assert set(batched) == set(one_by_one)
    largest = max(abs(batched[key] - one_by_one[key]) for key in batched)
    assert largest < 3 * np.sqrt(2 * DRAWS * 0.25)  # Deviations of a difference of two counts.
    monkeypatch.setattr(type(transforms[0]), 'transform', None)
    dataset.__getitems__([0])


@pytest.mark.parametrize(
    'transform',
    [
        RandomCrop(SIZE, padding=1, pad_val=7),
        RandomCrop(SIZE, padding=(1, 2)),
        RandomCrop(9, pad_if_needed=True),
        OwnCrop(SIZE, padding=1),
        RandomFlip([0.3, 0.3], ['horizontal', 'vertical']),
        OwnFlip(0.5, 'horizontal'),
        PackInputs(),
    ],
    ids=str,
)
def test_other_transforms_are_left_alone(transform):
    transforms = [transform] if isinstance(transform, PackInputs) else [transform, PackInputs()]
    dataset = Images(transforms)

    np.random.seed(0)
    batched = [describe(sample) for sample in dataset.__getitems__(range(NUMBER))]
    np.random.seed(0)
    one_by_one = [describe(dataset[index]) for index in range(NUMBER)]

    assert batched == one_by_one


def test_a_pipeline_is_batched_up_to_what_is_not_known():
    own = OwnFlip(0.5)
    transforms = [RandomCrop(SIZE, padding=1), own, RandomFlip(0.5), PackInputs()]

    batched, rest = split_pipeline(transforms)

    assert len(batched) == 1
    assert rest.transforms == transforms[1:]


def test_no_pipeline_at_all():
    samples = Images([]).__getitems__([1, 2])

    assert [sample['gt_label'] for sample in samples] == [1, 2]


def test_images_that_are_stored_in_memory_stay_as_they_are():
    dataset = Images([RandomFlip(0.5)], serialize_data=False)
    before = [entry['img'].copy() for entry in dataset.data_list]

    for sample in dataset.__getitems__(range(NUMBER)):
        sample['img'][:] = 0

    for entry, image in zip(dataset.data_list, before, strict=True):
        np.testing.assert_array_equal(entry['img'], image)


def test_one_seed_gives_one_batch():
    dataset = Images(usual())
    batches = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        batches.append([describe(sample) for sample in dataset.__getitems__(range(NUMBER))])

    assert batches[0] == batches[1] != batches[2]


def test_a_pipeline_that_is_replaced_later(without_the_transforms):
    """Hooks such as MMPretrain's SwitchRecipeHook do that."""
    dataset = Images([PackInputs()])
    before = dataset.__getitems__([0])
    dataset.pipeline = Compose(usual())

    after = dataset.__getitems__([0])

    assert 'flip' not in before[0]['data_samples']
    assert 'flip' in after[0]['data_samples']


def test_a_subset_and_its_indices():
    subset = Images(usual()).get_subset([6, 4])

    samples = subset.__getitems__([1, 0])

    assert [sample['data_samples'].gt_label.item() for sample in samples] == [4, 6]
    assert [sample['data_samples'].sample_idx for sample in samples] == [1, 0]


def test_a_sample_that_is_refused_is_replaced():
    dataset = Images([RandomCrop(SIZE, padding=1), Refuse(), PackInputs()])

    samples = dataset.__getitems__([1, 2])

    assert len(samples) == 2
    assert samples[1]['data_samples'].gt_label.item() == 2


def test_a_sample_that_is_always_refused_in_a_test():
    refuse = [RandomCrop(SIZE), lambda results: None]

    with pytest.raises(Exception, match='should not get `None`'):
        Images(refuse, test_mode=True).__getitems__([0])
