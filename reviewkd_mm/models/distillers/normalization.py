"""Map a batch from the student's normalisation to the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.distillers.padding import Padding

# Attributes of MMEngine's and MMDetection's, of MMPretrain's, of OpenMMLab's MMSegmentation's.
SWAPPED = ('_channel_conversion', 'to_rgb', 'channel_conversion')
PAD_VALUE = ('pad_value', 'pad_val')


@dataclass
class PixelFormat:
    """How a data_preprocessor writes pixels.

    Args:
        mean (Tensor): Mean of each channel, or one of all of them, in the order of its output.
        std (Tensor): Standard deviation, likewise.
        swapped (bool): Whether it reverses the channels that it is given.
        pad_value (float): What it writes beside an image, after normalising.
    """

    mean: Tensor
    std: Tensor
    swapped: bool
    pad_value: float

    @classmethod
    def of(cls, data_preprocessor: nn.Module) -> PixelFormat:
        """Read the format off a data_preprocessor of MMEngine or of a package on it.

        Args:
            data_preprocessor (nn.Module): The module; one without mean and std leaves pixels
                as they are.
        """
        mean, std = torch.zeros(1), torch.ones(1)
        if getattr(data_preprocessor, '_enable_normalize', False):
            mean, std = data_preprocessor.mean.flatten(), data_preprocessor.std.flatten()
        swapped = any(bool(getattr(data_preprocessor, name, False)) for name in SWAPPED)
        pad_values = (getattr(data_preprocessor, name, None) for name in PAD_VALUE)
        pad_value = float(next((value for value in pad_values if value is not None), 0))
        return cls(mean.double(), std.double(), swapped, pad_value)

    def check(self, role: str, channels: int) -> None:
        """Check that images can be normalised so.

        Args:
            role (str): The config key of the model, ``'student'`` or ``'teacher'``.
            channels (int): Number of channels of its images.

        Raises:
            ValueError: If a mean or a standard deviation is not finite, one of the latter is 0 or
                negative, or there is neither one nor one for each channel.
        """
        for name, values in (('mean', self.mean), ('std', self.std)):
            where = f'{role}.data_preprocessor.{name}={values.tolist()}'
            if len(values) not in (1, channels):
                raise ConfigError(f'{where}: expected one number, or one for each channel')
            if not values.isfinite().all() or (name == 'std' and (values <= 0).any()):
                more = ' greater than 0' if name == 'std' else ''
                raise ConfigError(f'{where}: expected finite numbers{more}')


class Renormalize(nn.Module):
    """Turn the student's batch into what the teacher's data_preprocessor would have made of it.

    One multiplication and addition per pixel, after the channels were reversed where the two
    orders differ. What the student's data_preprocessor padded is filled with the teacher's
    padding value. Where formats and sizes agree the batch is passed on untouched.

    Args:
        student (PixelFormat): The format of the batch.
        teacher (PixelFormat): The format that the teacher was trained with.
        size (tuple[int, int], optional): Height and width of the teacher's batch. Defaults to
            None, which means the student's padded size.
        interpolation (str): The mode of ``torch.nn.functional.interpolate`` that resizes it.
            Defaults to ``'bilinear'``.
    """

    def __init__(
        self,
        student: PixelFormat,
        teacher: PixelFormat,
        size: tuple[int, int] | None = None,
        interpolation: str = 'bilinear',
    ) -> None:
        super().__init__()
        self.size, self.interpolation = size, interpolation
        self.flip = student.swapped != teacher.swapped
        mean, std = student.mean, student.std
        if self.flip:
            mean, std = mean.flip(0), std.flip(0)
        scale, shift = std / teacher.std, (mean - teacher.mean) / teacher.std
        # What is between the teacher's padding and the student's in the teacher's format.
        gap = teacher.pad_value - (scale * student.pad_value + shift)
        for name, values in (('scale', scale), ('shift', shift), ('gap', gap)):
            self.register_buffer(name, values.float().view(-1, 1, 1), persistent=False)
        self.padding = Padding(student.pad_value)
        self.pad_value = teacher.pad_value
        self.same_pixels = not self.flip and bool((scale == 1).all() and (shift == 0).all())
        self.identity = self.same_pixels and student.pad_value == teacher.pad_value

    def follow(self, data_preprocessor: nn.Module) -> None:
        """Learn what the student's data_preprocessor pads, where that makes a difference.

        Args:
            data_preprocessor (nn.Module): The module, which makes the batches.
        """
        if not self.identity or self.size:
            self.padding.follow(data_preprocessor)

    def forward(self, inputs: Tensor, data_samples: Sequence | None = None) -> Tensor:
        """Map a batch.

        Args:
            inputs (Tensor): The student's batch (N, C, H, W), normalised and padded.
            data_samples (Sequence, optional): The samples, as the data_preprocessor that is
                followed gave them. Defaults to None, which means that nothing is padded.

        Returns:
            Tensor: The teacher's batch (N, C, H, W).
        """
        if self.identity and not self.size:
            return inputs
        areas = self.padding.areas(inputs, data_samples)
        outputs = inputs if self.identity else self._normalize(inputs, areas)
        return self.resize(outputs, areas)

    def resize(self, images: Tensor, areas: Tensor | None = None) -> Tensor:
        """Resize the teacher's images, each without what is padded beside it.

        Args:
            images (Tensor): Batch (N, C, H, W) in the teacher's format.
            areas (Tensor, optional): How much of each pixel is image (N, 1, H, W), see
                :meth:`Padding.areas`. Defaults to None, which means all of it.

        Returns:
            Tensor: Batch in the teacher's size, padded in proportion.
        """
        if not self.size or images.shape[-2:] == self.size:
            return images
        if areas is None:
            return F.interpolate(images, self.size, mode=self.interpolation)
        # The weights of the pixels beside the image go to those inside.
        images, areas = (
            F.interpolate(x, self.size, mode=self.interpolation) for x in (images * areas, areas)
        )
        return (images / areas).masked_fill(areas <= 0.5, self.pad_value)

    def _normalize(self, inputs: Tensor, areas: Tensor | None) -> Tensor:
        outputs = inputs
        if not self.same_pixels:
            outputs = inputs.flip(1) if self.flip else inputs
            outputs = outputs * self.scale.to(inputs.dtype) + self.shift.to(inputs.dtype)
        if areas is None:
            return outputs
        outputs = outputs + (1 - areas) * self.gap.to(inputs.dtype)
        return outputs.masked_fill(areas == 0, self.pad_value)
