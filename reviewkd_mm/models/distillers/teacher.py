"""The teacher: built or loaded once, and frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reviewkd_mm.errors import ConfigError, MissingFileError
from reviewkd_mm.models.distillers.checkpoint import (
    check_checkpoint_exists,
    check_finite,
    load_weights,
)
from reviewkd_mm.models.distillers.model_source import read_source
from reviewkd_mm.models.distillers.normalization import PixelFormat, Renormalize
from reviewkd_mm.models.distillers.own_weights import find_own_weights, without_own_weights
from reviewkd_mm.models.distillers.padding import resized_samples
from reviewkd_mm.models.distillers.probe import (
    FAILURES,
    IMAGE_SIZES,
    Forward,
    dummy_images,
    image_channels,
    probe,
    record_images,
)
from reviewkd_mm.models.distillers.teacher_options import TeacherOptions
from reviewkd_mm.models.recorders import Recorder

RANDOM = 'random'
NOISE_SIZES = ((128, 128), *IMAGE_SIZES)
# Mean and deviation of the pixels of photographs, whatever the channel.
PHOTOGRAPHS = PixelFormat(
    torch.tensor([118.0]), torch.tensor([57.5]), swapped=False, pad_value=0.0
)
# A grey image is shown to a teacher of colour images in three equal channels.
GREY, COLOUR = 1, 3


class FrozenTeacher:
    """Hold a teacher where nothing trains, saves, averages or synchronises it.

    A plain object, so that the model is no submodule of the distiller: it is absent from its
    ``state_dict()``, ``parameters()``, ``train()`` and from DistributedDataParallel. A deep
    copy, which an EMA makes of the distiller, shares the teacher until it is moved or cast.

    Args:
        model (nn.Module): The teacher, with its weights. It is put into eval mode for good.
        renormalize (Renormalize): Maps the student's batch to the teacher's normalisation.
        options (TeacherOptions, optional): How it is run. Defaults to None, which means as it is.
    """

    def __init__(
        self, model: nn.Module, renormalize: Renormalize, options: TeacherOptions | None = None
    ) -> None:
        self.model = model
        self.renormalize = renormalize
        self.options = options or TeacherOptions()
        self._forward: Forward | None = None
        self._run: Forward | None = None
        self._shared = False
        model.requires_grad_(False)
        self._freeze()

    def __deepcopy__(self, memo: dict) -> FrozenTeacher:
        shared = copy.copy(self)
        shared._shared = True
        return shared

    def probe(self, recorders: Mapping[str, Recorder]) -> None:
        """Find the shortest forward that reaches all taps, see :func:`probe`.

        Args:
            recorders (Mapping[str, Recorder]): The teacher's recorders by config key. They
                hold the features of a dummy image afterwards.

        Raises:
            RuntimeError: If no forward reaches a tap.
        """
        parameter = next(self.model.parameters(), torch.empty(0))
        sizes = (self.options.size,) if self.options.size else IMAGE_SIZES
        with self.options.precision(parameter.device.type):
            self._forward = probe(self.model, recorders, sizes)
        self._run = torch.compile(self._forward) if self.options.compile else self._forward

    @torch.no_grad()
    def record(
        self, recorders: Iterable[Recorder], inputs: Tensor, data_samples: Sequence | None
    ) -> None:
        """Run the teacher as far as its taps and leave the features in the recorders.

        Args:
            recorders (Iterable[Recorder]): The teacher's recorders.
            inputs (Tensor): The student's batch (N, C, H, W).
            data_samples (Sequence, optional): Its samples, which tell images from padding.
        """
        self._follow(inputs)
        # Each time: a part of it may have been put into training mode since.
        self._freeze()
        with ExitStack() as stack:
            for recorder in recorders:
                stack.enter_context(recorder.recording(self.model))
            stack.enter_context(self.options.precision(inputs.device.type))
            self._run(self.model, self._prepare(inputs, data_samples))

    def record_images(self, recorders: Iterable[Recorder], images: Tensor) -> None:
        """Run the teacher on images of its own format, to see what its taps give.

        Args:
            recorders (Iterable[Recorder]): The teacher's recorders.
            images (Tensor): Images (N, C, H, W) on the teacher's device, in the size of the
                student's.
        """
        images = self.renormalize.resize(images)
        record_images(self.model, recorders, self._forward, images)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: Sequence | None) -> object:
        """Run the whole teacher in eval mode, ``train_bn`` or not, in its own precision.

        Args:
            inputs (Tensor): The student's batch (N, C, H, W).
            data_samples (Sequence, optional): Its samples.

        Returns:
            object: What the teacher returns in mode ``'predict'``.
        """
        # The next training step puts it into the mode that it trains in.
        self.model.eval()
        with self.options.precision(inputs.device.type):
            images = self._prepare(inputs, data_samples)
            samples = resized_samples(data_samples, inputs.shape[-2:], images.shape[-2:])
            return self.model(images, samples, mode='predict')

    def apply_to_tensors(self, function: Callable[[Tensor], Tensor]) -> None:
        """Move or cast the teacher, as ``nn.Module._apply`` does.

        Args:
            function (Callable[[Tensor], Tensor]): What is done with each tensor.
        """
        if self._shared:
            # An EMA that is kept on the CPU must not take along what the distiller needs.
            self.model, self.renormalize = copy.deepcopy((self.model, self.renormalize))
            self._shared = False
        self.model._apply(function)
        self.renormalize._apply(function)
        if isinstance(self.model, BaseModel):
            # Its data_preprocessor keeps the device apart, for a use of the teacher by itself.
            self.model._set_device(next(self.model.parameters()).device)

    def _prepare(self, inputs: Tensor, data_samples: Sequence | None) -> Tensor:
        """Make the teacher's images of the student's batch."""
        images = self.renormalize(inputs, data_samples)
        if images.shape[1] == GREY and image_channels(self.model) == COLOUR:
            images = images.repeat(1, COLOUR, 1, 1)
        return images

    def _follow(self, inputs: Tensor) -> None:
        """Move to the device of the images: FSDP moves the student without ``nn.Module.to``."""
        parameter = next(self.model.parameters(), inputs)
        if parameter.device != inputs.device:
            self.apply_to_tensors(lambda tensor: tensor.to(inputs.device))

    def _freeze(self) -> None:
        modules = list(self.model.modules())
        norms = [m for m in modules if isinstance(m, _BatchNorm)] if self.options.train_bn else []
        if not any(module.training for module in modules) and not norms:
            return
        self.model.eval()
        for norm in norms:
            # Training without tracking: statistics of the batch, none written.
            norm.training, norm.track_running_stats = True, False


def build_teacher(
    teacher: Mapping | str | Path | nn.Module,
    checkpoint: str | Path | None,
    student_preprocessor: BaseDataPreprocessor,
    student_channels: int,
    allow_mismatch: Sequence[str] = (),
    options: TeacherOptions | None = None,
    trust_checkpoint: bool = False,
) -> FrozenTeacher:
    """Build a teacher, give it its weights and freeze it.

    Args:
        teacher (dict | str | Path | nn.Module): A model config, a config path or a model.
        checkpoint (str | Path, optional): Path or URL of its weights; ``'random'`` for random
            ones; None for those of the config path's metafile, of the config's own ``init_cfg``
            or ``pretrained``, or the model's own.
        student_preprocessor (BaseDataPreprocessor): The student's. A teacher without a
            data_preprocessor is taken to be normalised likewise.
        student_channels (int): Number of channels of the student's images.
        allow_mismatch (Sequence[str]): Patterns of the teacher's parameter names that the
            checkpoint need not fit. Defaults to ().
        options (TeacherOptions, optional): How it is run. Defaults to None.
        trust_checkpoint (bool): Whether code in the checkpoint may run. Defaults to False.

    Returns:
        FrozenTeacher: The teacher.

    Raises:
        ValueError: If no checkpoint is known, or the student's images have other channels.
        FileNotFoundError: If the checkpoint does not exist.
        RuntimeError: If the checkpoint does not fit.
    """
    if checkpoint is not None and not (isinstance(checkpoint, (str, Path)) and str(checkpoint)):
        raise ConfigError(
            f"teacher_ckpt={checkpoint!r}: expected the path or URL of the teacher's weights, or "
            f"'{RANDOM}' for an untrained teacher"
        )
    checkpoint = str(checkpoint) if isinstance(checkpoint, Path) else checkpoint
    pixels = PixelFormat.of(student_preprocessor)
    own_weights = None
    if isinstance(teacher, nn.Module):
        model = teacher
        # MMEngine gives a model that was built without a data_preprocessor one that does nothing.
        own_pixels = hasattr(getattr(model, 'data_preprocessor', None), '_enable_normalize')
    else:
        source = read_source('teacher', teacher)
        checkpoint = checkpoint or source.checkpoint
        own_weights = None if checkpoint else find_own_weights(source.cfg)
        if own_weights is None:
            _check_known(teacher, checkpoint)
            without_own_weights(source.cfg)
        own_pixels = source.cfg.get('data_preprocessor') is not None
        model = source.build('teacher')
    options = options or TeacherOptions()
    channels = image_channels(model)
    _check_channels(student_channels, channels)
    teacher_pixels = pixels
    if own_pixels:
        teacher_pixels = PixelFormat.of(model.data_preprocessor)
        teacher_pixels.check('teacher', channels)
    if checkpoint == RANDOM:
        _randomize(model, teacher_pixels, options.size)
    elif checkpoint is not None:
        load_weights(model, checkpoint, 'teacher_ckpt', allow_mismatch, trust_checkpoint)
        check_finite(model, f"teacher_ckpt='{checkpoint}'")
    elif own_weights is not None:
        own_weights.load(model, allow_mismatch, trust_checkpoint)
    renormalize = Renormalize(pixels, teacher_pixels, options.size, options.interpolation)
    renormalize.follow(student_preprocessor)
    return FrozenTeacher(model, renormalize, options)


def _check_channels(student: int, teacher: int) -> None:
    if student == teacher or (student, teacher) == (GREY, COLOUR):
        return
    raise ConfigError(
        f"teacher: its images have {teacher} channel{'s' * (teacher != 1)}, the student's "
        f'{student}: expected the same number, or {GREY} and {COLOUR} of a student of grey images'
    )


def _check_known(teacher: Mapping | str | Path, checkpoint: str | None) -> None:
    if checkpoint is None:
        name = teacher.get('type') if isinstance(teacher, Mapping) else teacher
        raise ConfigError(
            f"teacher='{name}' has no known checkpoint: set teacher_ckpt to the path or URL of "
            f"its weights, or to '{RANDOM}' for an untrained teacher"
        )
    if checkpoint == RANDOM:
        return
    try:
        check_checkpoint_exists(checkpoint, 'teacher_ckpt')
    except FileNotFoundError as error:
        raise MissingFileError(
            f'{error}. Train the teacher with its config in configs/baselines, convert a '
            'published checkpoint with tools/model_converters, or give the path of another one; '
            f"'{RANDOM}' stands for an untrained teacher"
        ) from error


@torch.no_grad()
def _randomize(model: nn.Module, pixels: PixelFormat, image_size: tuple[int, int] | None) -> None:
    """Draw weights without downloading any, and set BatchNorm's statistics from noise.

    With the statistics that BatchNorm starts with, the features of a deep network explode.
    """
    for module in model.modules():
        module_cfg = getattr(module, 'init_cfg', None)
        if isinstance(module_cfg, Mapping):
            module.init_cfg = None if 'checkpoint' in module_cfg else module_cfg
        elif module_cfg:
            module.init_cfg = [c for c in module_cfg if 'checkpoint' not in c] or None
    if hasattr(model, 'init_weights'):
        model.init_weights()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.training, norm.momentum = True, 1.0
    for size in (image_size,) if image_size else NOISE_SIZES:
        # The noise is normalised as most teachers want it; this one may have a format of its own.
        images = Renormalize(PHOTOGRAPHS, pixels)(_image_like_noise(model, size))
        with suppress(*FAILURES):  # What takes no size at all is for the probe to tell.
            model.extract_feat(images) if hasattr(model, 'extract_feat') else model(images)
            break
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.training, norm.momentum = False, momentum


def _image_like_noise(model: nn.Module, size: tuple[int, int], batch_size: int = 8) -> Tensor:
    """Add up noise of all sizes, from single pixels to whole images.

    Patches of white noise all look alike deep in a network. With the statistics of that, the
    features of an image explode.
    """
    sides = [2**power for power in range(min(size).bit_length())]
    noises = [dummy_images(model, batch_size, side) for side in sides]
    images = sum(F.interpolate(noise, size=size) for noise in noises)
    return images / len(sides) ** 0.5
