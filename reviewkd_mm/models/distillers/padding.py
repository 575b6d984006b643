"""Tell the images of a batch from what its data_preprocessor put beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

# Metainfo of a sample: the (height, width) of its image or, after a batch augmentation, how much
# of each pixel (1, H, W) is image.
AREA = 'image_area'
# How near a padded pixel is to the padding value, in half precision too.
NEAR = 2**-7


class Padding:
    """What a data_preprocessor pads, known from the images that it is given.

    ``img_shape`` does not tell: a transform may resize an image and leave it as it was. Nothing
    is kept here: the samples carry what is known to wherever the batch is used.

    Args:
        value (float): What the data_preprocessor writes beside an image, after normalising.
    """

    def __init__(self, value: float) -> None:
        self.value = value

    def follow(self, data_preprocessor: nn.Module) -> None:
        """Let a data_preprocessor note on each sample where its image lies in the batch.

        Args:
            data_preprocessor (nn.Module): The module, of MMEngine or of a package on it.
        """
        data_preprocessor.register_forward_pre_hook(_note_sizes, with_kwargs=True)
        augments = getattr(data_preprocessor, 'batch_augments', None)
        for augment in augments if isinstance(augments, nn.ModuleList) else ():
            augment.register_forward_pre_hook(self._add_areas)
            augment.register_forward_hook(_take_areas)

    def areas(self, inputs: Tensor, data_samples: Sequence | None) -> Tensor | None:
        """Say how much of each pixel is image.

        Args:
            inputs (Tensor): Batch (N, C, H, W) from the data_preprocessor.
            data_samples (Sequence, optional): Its samples.

        Returns:
            Tensor | None: (N, 1, H, W): 1 in an image, 0 in padding, between where a batch
            augmentation blended them. None if nothing is known to be padded.
        """
        found = _noted(data_samples)
        if len(found) != len(inputs) or not _is_padded(inputs, found):
            return None
        if isinstance(found[0], Tensor):
            areas = torch.stack(found).to(inputs)
        else:
            areas = inputs.new_zeros(len(inputs), 1, *inputs.shape[-2:])
            for area, (height, width) in zip(areas, found, strict=True):
                area[:, :height, :width] = 1
        # Mixup and its like put pixels of other images there, which are no padding.
        off = (inputs - self.value).abs().amax(1, keepdim=True)
        return areas.masked_fill((areas == 0) & (off > NEAR * abs(self.value)), 1)

    def _add_areas(self, augment: nn.Module, args: tuple) -> tuple | None:
        """Send the areas through a batch augmentation as more images.

        As one more channel they would change how some kernels round the images.
        """
        inputs, samples = args
        if not _noted(samples):
            return None
        areas = self.areas(inputs, samples)
        if areas is None:  # All of them are the same.
            areas = inputs.new_ones(1, 1, *inputs.shape[-2:])
        return torch.cat([inputs, areas.expand(-1, *inputs.shape[1:])]), samples


def resized_samples(
    data_samples: Sequence | None, old: Sequence[int], new: Sequence[int]
) -> Sequence | None:
    """Return samples that fit a batch which was resized, for a model that predicts on it.

    Args:
        data_samples (Sequence, optional): The samples.
        old (Sequence[int]): Height and width of the batch before.
        new (Sequence[int]): Height and width of it now.

    Returns:
        Sequence | None: Copies, or what was given where the size is the same.
    """
    if not data_samples or tuple(old) == tuple(new):
        return data_samples
    height, width = new[0] / old[0], new[1] / old[1]
    # As MMDetection, MMSegmentation and MMCV order the sides.
    scales = {
        **dict.fromkeys(('img_shape', 'pad_shape', 'batch_input_shape'), (height, width)),
        **dict.fromkeys(('padding_size', 'img_padding_size'), (width, width, height, height)),
    }
    copies = [sample.clone() for sample in data_samples]
    for sample in copies:
        for key, value in list(sample.metainfo_items()):
            if key == 'scale_factor':
                sample.set_metainfo({key: (value[0] * width, value[1] * height)})
            elif key in scales and value is not None:
                sides = zip(value, scales[key], strict=False)
                sample.set_metainfo({key: tuple(round(side * scale) for side, scale in sides)})
    return copies


def _take_areas(augment: nn.Module, args: tuple, output: tuple) -> tuple | None:
    count = len(_noted(args[1]))
    if not count:
        return None
    batch, samples = output
    # An augmentation may pad them too, with a value of its own.
    areas = batch[count:, :1].clamp(0, 1).expand(count, -1, -1, -1)
    for sample, area in zip(samples, areas, strict=True):
        sample.set_field(area, AREA, field_type='metainfo')
    return batch[:count], samples


def _noted(data_samples: Sequence | None) -> list:
    """Return the areas that are noted on the samples, none if one has none."""
    areas = [getattr(sample, AREA, None) for sample in data_samples or ()]
    return [] if any(area is None for area in areas) else areas


def _is_padded(inputs: Tensor, areas: list) -> bool:
    height, width = inputs.shape[-2:]
    if isinstance(areas[0], Tensor):
        return areas[0].shape[-2:] == (height, width)
    return any(h < height or w < width for h, w in areas)


def _note_sizes(data_preprocessor: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
    data = args[0] if args else kwargs.get('data')
    if not isinstance(data, Mapping):
        return
    images, samples = data.get('inputs'), data.get('data_samples')
    if not isinstance(images, (Tensor, list, tuple)) or not isinstance(samples, (list, tuple)):
        return
    for image, sample in zip(images, samples, strict=False):
        if isinstance(sample, BaseDataElement) and isinstance(image, Tensor) and image.dim() == 3:
            sample.set_field(tuple(image.shape[-2:]), AREA, field_type='metainfo')
