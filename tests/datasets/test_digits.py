"""Tests of the digits: split, determinism and difficulty."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from reviewkd_mm.datasets import Digits, digits
from reviewkd_mm.registry import DATASETS


def stack(dataset: Digits) -> np.ndarray:
    return np.stack([dataset[i]['img'] for i in range(len(dataset))])


def nearest_mean_accuracy(**settings) -> float:
    """Classify the test split by the nearest mean image of the training split."""
    train, test = Digits(split='train', **settings), Digits(split='test', **settings)
    inputs, labels = stack(train).astype(float), train.get_gt_labels()
    means = np.stack([inputs[labels == digit].mean(0).ravel() for digit in range(10)])
    queries = stack(test).reshape(len(test), -1).astype(float)
    distances = ((queries[:, None] - means) ** 2).sum(-1)
    return (distances.argmin(1) == test.get_gt_labels()).mean()


def test_images_and_labels():
    dataset = DATASETS.build(dict(type='reviewkd_mm.Digits', image_size=24, num_train=1))

    assert dataset[0]['img'].shape == (24, 24, 3)
    assert dataset[0]['img'].dtype == np.uint8
    assert isinstance(dataset[0]['gt_label'], int)
    assert dataset.metainfo['classes'] == tuple('0123456789')


def ink(images: np.ndarray) -> np.ndarray:
    """Bring each image to [0, 1], whatever its pen and its paper are."""
    images = images.reshape(len(images), -1).astype(float)
    low, high = images.min(1, keepdims=True), images.max(1, keepdims=True)
    return (images - low) / (high - low)


def test_the_splits_share_no_digit_and_hold_them_all():
    plain = dict(image_size=8, scale=(1, 1), clutter=0, noise=0)
    train, test = Digits(split='train', **plain), Digits(split='test', **plain)

    counts = np.bincount(test.get_gt_labels()) / np.bincount(train.get_gt_labels())
    np.testing.assert_allclose(counts, 0.4 / 0.6, atol=0.03)
    assert np.abs(np.diff(train.get_gt_labels()[:50])).sum() > 0, 'the classes must be mixed'
    drawn = ink(np.concatenate([stack(train), stack(test)])[..., 0])
    originals = ink(load_digits().images)
    distances = (originals**2).sum(1) - 2 * drawn @ originals.T
    assert sorted(distances.argmin(1)) == [*range(len(originals))]


def test_the_label_is_the_digit():
    assert nearest_mean_accuracy(image_size=8, scale=(1, 1), clutter=0, noise=0) > 0.8


def test_the_default_images_are_harder():
    assert nearest_mean_accuracy(image_size=16) < 0.6


def test_two_builds_are_equal():
    one, other = (stack(Digits(image_size=16, num_train=5)) for _ in range(2))

    np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_data_set():
    one, other = (Digits(image_size=16, num_train=5, seed=seed) for seed in (0, 1))

    assert one.get_gt_labels().tolist() != other.get_gt_labels().tolist()


def test_a_limit_keeps_the_images_as_they_are():
    whole, few = Digits(image_size=8), Digits(image_size=8, num_train=5)

    assert np.bincount(few.get_gt_labels()).tolist() == [5] * 10
    images = {image.tobytes() for image in stack(whole)}
    assert all(image.tobytes() in images for image in stack(few))


def test_the_limit_is_for_training_alone():
    whole, limited = (Digits(split='test', image_size=8, num_train=n) for n in (None, 5))

    assert len(limited) == len(whole)


def test_copies_are_other_renderings():
    once, twice = (Digits(image_size=16, num_train=5, copies=n) for n in (1, 2))

    assert len(twice) == 2 * len(once)
    np.testing.assert_array_equal(stack(twice)[: len(once)], stack(once))
    assert twice[0]['gt_label'] == twice[len(once)]['gt_label']
    assert not np.array_equal(twice[0]['img'], twice[len(once)]['img'])


def test_indices_and_a_pipeline():
    dataset = Digits(
        num_train=4,
        indices=30,
        pipeline=[dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4)],
    )

    assert len(dataset) == 30
    assert dataset[29]['img'].shape == (32, 32, 3)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('split', 'val'),
        ('scale', (0.5, 1.5)),
        ('scale', (0.9, 0.5)),
        ('test_fraction', 1.0),
        ('copies', 0),
        ('num_train', 0),
        ('image_size', 4),
    ],
)
def test_a_wrong_value_is_refused(name, value):
    with pytest.raises(ValueError, match=f'Digits: {name}='):
        Digits(**{name: value})


def test_a_missing_scikit_learn_is_named(monkeypatch):
    digits._read_digits.cache_clear()
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)

    with pytest.raises(ValueError, match='pip install scikit-learn'):
        Digits()
