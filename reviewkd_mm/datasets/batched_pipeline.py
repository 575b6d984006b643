"""Random crops and flips for a whole batch of small images at once.

For images of 32x32 pixels nearly all the time of a pipeline is what it spends around the pixels:
a call, a draw and a few checks for each image and transform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import mmcv
import numpy as np
from mmcv.transforms import RandomFlip
from mmengine.dataset import Compose
from mmpretrain.datasets.transforms import RandomCrop

BatchedTransform = Callable[[list[dict]], None]


class BatchedPipeline:
    """Let a data set of images and their classes crop and flip a batch of images at once.

    PyTorch's dataloader asks a data set that has ``__getitems__`` for the samples of a batch
    together. The transforms that a pipeline starts with, as far as `find_batched` knows them, are
    then done for the batch, and the rest sample by sample. The samples have the same content and
    the same distribution as those of ``dataset[index]``. They are not the same samples for one
    seed: the numbers come from the same generator, ``numpy.random``, in another order.

    Wrappers without ``__getitems__``, such as ``RepeatDataset``, go on asking for one sample at a
    time. Mix it into an ``mmengine.dataset.BaseDataset`` whose ``get_data_info`` returns images
    of one size under ``img``.
    """

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        """Return the samples of a batch.

        Args:
            indices (Sequence[int]): Indices of the samples.

        Returns:
            list[dict]: What the pipeline returns for each index, in this order.
        """
        # Not kept from one batch to the next: hooks may give the data set another pipeline.
        batched, rest = split_pipeline(self.pipeline.transforms)
        if not batched:
            return [self[index] for index in indices]
        results = [self.get_data_info(index) for index in indices]
        for transform in batched:
            transform(results)
        samples = [rest(result) for result in results]
        # None stands for an image that cannot be used; MMEngine knows what to do then.
        return [
            self[index] if sample is None else sample
            for index, sample in zip(indices, samples, strict=True)
        ]


def split_pipeline(transforms: Sequence[Callable]) -> tuple[list[BatchedTransform], Compose]:
    """Split a pipeline where it can no longer be done for a batch at once.

    Args:
        transforms (Sequence[Callable]): The transforms of a pipeline.

    Returns:
        tuple[list, Compose]: Its first transforms for a list of results, which they change in
        place, and the rest of it for one result.
    """
    batched = []
    for transform in transforms:
        found = find_batched(transform)
        if found is None:
            break
        batched.append(found)
    return batched, Compose(transforms[len(batched) :])


def find_batched(transform: Callable) -> BatchedTransform | None:
    """Return what does a transform's work for a batch, or None where nothing does exactly that.

    These two are known, but not their subclasses: MMPretrain's ``RandomCrop`` with no padding or
    the same zero padding on every side, and MMCV's ``RandomFlip`` with one direction.

    Args:
        transform (Callable): A transform of a pipeline.
    """
    if type(transform) is RandomCrop:
        pads_alike = transform.padding is None or isinstance(transform.padding, int)
        is_known = pads_alike and transform.pad_val == 0 and not transform.pad_if_needed
        return partial(_crop, transform) if is_known else None
    if type(transform) is RandomFlip:
        return partial(_flip, transform) if isinstance(transform.direction, str) else None
    return None


def _crop(transform: RandomCrop, results: list[dict]) -> None:
    images = np.stack([result['img'] for result in results])
    padding = transform.padding or 0
    no_padding = [(0, 0)]
    sides = no_padding + [(padding, padding)] * 2 + no_padding * (images.ndim - 3)
    images = np.pad(images, sides)
    number, height, width = images.shape[:3]
    crop_height, crop_width = map(min, transform.crop_size, (height, width))
    tops = np.random.randint(0, height - crop_height + 1, number).tolist()
    lefts = np.random.randint(0, width - crop_width + 1, number).tolist()
    for result, image, top, left in zip(results, images, tops, lefts, strict=True):
        result['img'] = image[top : top + crop_height, left : left + crop_width]
        result['img_shape'] = result['img'].shape


def _flip(transform: RandomFlip, results: list[dict]) -> None:
    is_flipped = (np.random.random(len(results)) < transform.prob).tolist()
    for result, flip in zip(results, is_flipped, strict=True):
        result['flip'] = flip
        result['flip_direction'] = transform.direction if flip else None
        if flip:
            result['img'] = mmcv.imflip(result['img'], transform.direction)
