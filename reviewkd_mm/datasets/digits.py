"""Handwritten digits that ship with scikit-learn, made harder: real data without a download."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import mmcv
import numpy as np
from mmpretrain.datasets import BaseDataset

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.registry import DATASETS

NUM_CLASSES = 10
MAX_LEVEL = 16  # scikit-learn's grey levels run from 0 to 16


@DATASETS.register_module()
class Digits(BaseDataset):
    """The 1,797 digits of the UCI optical recognition set, on a cluttered and noisy canvas.

    Each 8x8 grey image is drawn with a random size, place and colour among fragments of other
    digits of its split, and noise is added. An image depends on ``seed``, the digit and the copy
    alone: two data sets with the same settings are equal, whatever ``num_train`` and ``indices``.

    Args:
        split (str): ``'train'`` or ``'test'``. Defaults to ``'train'``.
        image_size (int): Height and width of the images, in pixels. Defaults to 32.
        scale (tuple[float, float]): Range of a digit's side, as a fraction of ``image_size``.
            ``(1, 1)`` fills the canvas. Defaults to ``(0.6, 0.9)``.
        clutter (int): Number of fragments of other digits in each image. Defaults to 2.
        noise (float): Standard deviation of the Gaussian noise, in grey levels out of 255.
            Defaults to 30.
        copies (int): Renderings of each digit, each another one. Defaults to 1.
        num_train (int | None): Digits of each class in the training split; None takes all of
            them. Defaults to None.
        test_fraction (float): Fraction of each class's digits in the test split. Defaults to 0.4.
        seed (int): Seed of the split and of the drawing. Defaults to 0.
        **kwargs: Arguments of ``mmpretrain.datasets.BaseDataset``, such as ``pipeline``.

    Raises:
        ValueError: If scikit-learn is not installed, or an argument is out of its range.

    Examples:
        >>> dataset = dict(type='reviewkd_mm.Digits', split='train', image_size=32)
    """

    METAINFO: ClassVar[dict] = {'classes': tuple(str(digit) for digit in range(NUM_CLASSES))}

    def __init__(
        self,
        split: str = 'train',
        image_size: int = 32,
        scale: tuple[float, float] = (0.6, 0.9),
        clutter: int = 2,
        noise: float = 30.0,
        copies: int = 1,
        num_train: int | None = None,
        test_fraction: float = 0.4,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        _require(split in ('train', 'test'), 'split', split, "'train' or 'test'")
        _require(image_size >= 8, 'image_size', image_size, 'at least 8 pixels')
        in_order = 0 < scale[0] <= scale[1] <= 1
        _require(in_order, 'scale', scale, '0 < smallest <= largest <= 1')
        _require(copies >= 1, 'copies', copies, 'at least 1')
        _require(num_train is None or num_train >= 1, 'num_train', num_train, 'None or at least 1')
        _require(0 < test_fraction < 1, 'test_fraction', test_fraction, '0 < fraction < 1')
        self.split = split
        self.image_size = image_size
        self.scale = scale
        self.clutter = clutter
        self.noise = noise
        self.copies = copies
        self.num_train = num_train
        self.test_fraction = test_fraction
        self.seed = seed
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Draw the images of the split.

        Returns:
            list[dict]: ``img``, a uint8 array (image_size, image_size, 3), and ``gt_label``.
        """
        images, labels = _read_digits()
        members = self._members(labels)
        pool = images[members]
        limit = self.num_train if self.split == 'train' else None
        return [
            {
                'img': self._draw(images[index], pool, (self.seed, index, copy)),
                'gt_label': int(labels[index]),
            }
            for copy in range(self.copies)
            for index in _first_of_each_class(members, labels, limit)
        ]

    def _members(self, labels: np.ndarray) -> np.ndarray:
        """Return the shuffled indices of the digits of this split, each class divided alike."""
        order = np.random.default_rng(self.seed).permutation(len(labels))
        rank = np.empty(len(labels), dtype=int)
        for digit in range(NUM_CLASSES):
            same = order[labels[order] == digit]
            rank[same] = np.arange(len(same))
        num_test = np.bincount(labels) * self.test_fraction
        is_test = rank < num_test[labels]
        return order[is_test[order] == (self.split == 'test')]

    def _draw(self, digit: np.ndarray, pool: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
        """Draw one digit on a canvas of fragments of the digits in ``pool`` (N, 8, 8)."""
        rng = np.random.default_rng(seed)
        ink = np.zeros((self.image_size, self.image_size), np.float32)
        for _ in range(self.clutter):
            fragment = self._resize(pool[rng.integers(len(pool))], rng)
            _paste(ink, _cut(fragment, rng), rng)
        _paste(ink, self._resize(digit, rng), rng)
        paper, pen = rng.uniform(0, 110, 3), rng.uniform(145, 255, 3)
        image = paper + (pen - paper) * ink[..., None]
        image += rng.normal(0, self.noise, image.shape)
        return image.clip(0, 255).round().astype(np.uint8)

    def _resize(self, digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        side = max(1, round(self.image_size * rng.uniform(*self.scale)))
        return mmcv.imresize(digit, (side, side))

    def extra_repr(self) -> list[str]:
        """Return the lines that describe this data set in its representation."""
        return [f'Split: \t{self.split}', f'Image size: \t{self.image_size}']


def _require(is_met: bool, name: str, value: object, expected: str) -> None:
    if not is_met:
        raise ConfigError(f'Digits: {name}={value!r}: expected {expected}')


@cache
def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, 8, 8), float32 in [0, 1], and their labels (N,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ConfigError(
            'reviewkd_mm.Digits reads its images from scikit-learn, which cannot be imported: '
            'pip install scikit-learn'
        ) from error
    digits = load_digits()
    return (digits.images / MAX_LEVEL).astype(np.float32), digits.target


def _first_of_each_class(members: np.ndarray, labels: np.ndarray, limit: int | None) -> list[int]:
    """Return the first ``limit`` members of each class, in the order of ``members``."""
    if limit is None:
        return members.tolist()
    taken = [members[labels[members] == digit][:limit] for digit in range(NUM_CLASSES)]
    kept = set(np.concatenate(taken).tolist())
    return [index for index in members.tolist() if index in kept]


def _cut(digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random quarter of a digit, half its height and width."""
    side = max(1, len(digit) // 2)
    top, left = rng.integers(0, len(digit) - side + 1, 2)
    return digit[top : top + side, left : left + side]


def _paste(ink: np.ndarray, drawing: np.ndarray, rng: np.random.Generator) -> None:
    """Write a drawing over the ink at a random place, where it is the darker of both."""
    side = len(drawing)
    top, left = rng.integers(0, len(ink) - side + 1, 2)
    area = ink[top : top + side, left : left + side]
    np.maximum(area, drawing, out=area)
