"""The teacher: built or loaded once, and frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel, PretrainedInit
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reviewkd_mm.errors import ConfigError, MissingFileError
from reviewkd_mm.models.distillers.channels_last import contiguous_gradients, contiguous_inputs
from reviewkd_mm.models.distillers.checkpoint import (
    check_checkpoint_exists,
    check_finite,
    load_weights,
)
from reviewkd_mm.models.distillers.compiled import Compiled
from reviewkd_mm.models.distillers.model_source import read_source
from reviewkd_mm.models.distillers.normalization import PixelFormat, Renormalize
from reviewkd_mm.models.distillers.probe import (
    dummy_images,
    image_channels,
    probe,
    record_dummy,
)
from reviewkd_mm.models.distillers.side_stream import SideStream
from reviewkd_mm.models.distillers.teacher_options import TeacherOptions, fast_copy
from reviewkd_mm.models.recorders import Recorder
from reviewkd_mm.models.recorders.base_tap import TapHook
from reviewkd_mm.utils import forked_rng

RANDOM = 'random'
# Of the noise on which a faster form of the teacher is proven.
SEED = 0
# Mean and deviation of the pixels of photographs, whatever the channel.
PHOTOGRAPHS = PixelFormat(
    torch.tensor([118.0]), torch.tensor([57.5]), swapped=False, pad_value=0.0
)
PRETRAINED = ('Pretrained', PretrainedInit)


class FrozenTeacher:
    """Hold a teacher where nothing trains, saves, averages or synchronises it.

    A plain object, so that the model is no submodule of the distiller: it is absent from its
    ``state_dict()``, ``parameters()``, ``train()`` and from DistributedDataParallel. A deep
    copy, which an EMA makes of the distiller, shares the teacher until it is moved or cast.

    Args:
        model (nn.Module): The teacher, with its weights. It is put into eval mode for good.
        renormalize (Renormalize): Maps the student's batch to the teacher's normalisation.
        train_bn (bool): Whether BatchNorm uses the statistics of the batch, as the reference
            CIFAR code did, without writing the running ones: nothing is folded then. Defaults
            to False.
        options (TeacherOptions, optional): How it is run. Defaults to None, which means as it is.
    """

    def __init__(
        self,
        model: nn.Module,
        renormalize: Renormalize,
        train_bn: bool = False,
        options: TeacherOptions | None = None,
    ) -> None:
        self.model = model
        self.renormalize = renormalize
        self.train_bn = train_bn
        self.options = options or TeacherOptions()
        if train_bn:
            self.options = replace(self.options, fold_bn=False)
        self._forward: Callable[[nn.Module, Tensor], object] | None = None
        self._compiled: Compiled | None = None
        self._stream = SideStream() if self.options.stream else None
        # What is run, and the state of the model's weights that it was made from.
        self._running = model
        self._made_from: list[object] = []
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
        self._forward = probe(self.model, recorders)
        if self.options.compile:
            name = f'teacher_compile: {type(self.model).__name__}'
            self._compiled = Compiled(self._forward, name)
        self._prepare(list(recorders.values()))

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
        recorders = list(recorders)
        self._follow(inputs)
        # Each time: a part of it may have been put into training mode or loaded since.
        self._freeze()
        if self._made_from != self._state():
            self._prepare(recorders)
        with ExitStack() as stack:
            for recorder in recorders:
                stack.enter_context(recorder.recording(self._running))
            if self._stream is not None:
                stack.enter_context(self._stream.beside(inputs))
            stack.enter_context(self.options.precision(inputs.device.type))
            images = self.renormalize(inputs, data_samples)
            if self._compiled is None:
                self._forward(self._running, images)
            else:
                self._compiled(self._running, images)

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
            images = self.renormalize(inputs, data_samples)
            return self.model(images, data_samples, mode='predict')

    def join(self, recorders: Iterable[Recorder]) -> None:
        """Let the current stream wait for the features, if the teacher runs on one of its own.

        Args:
            recorders (Iterable[Recorder]): The recorders that hold them.
        """
        if self._stream is not None:
            self._stream.join(f for recorder in recorders for f in recorder.features())

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

    def _follow(self, inputs: Tensor) -> None:
        """Move to the device of the images: FSDP moves the student without ``nn.Module.to``."""
        parameter = next(self.model.parameters(), inputs)
        if parameter.device != inputs.device:
            self.apply_to_tensors(lambda tensor: tensor.to(inputs.device))

    def _prepare(self, recorders: Sequence[Recorder]) -> None:
        """Make what is run, and prove on a dummy image that it gives the same features."""
        parameter = next(self.model.parameters(), torch.empty(0))
        device_type = parameter.device.type

        def run(model: nn.Module) -> list[Tensor]:
            # In training a copy that is stored in half precision gets images of the model's.
            half = next(model.parameters(), parameter).dtype != torch.float64
            with forked_rng(SEED):
                record_dummy(model, recorders, self._forward, parameter.dtype if half else None)
            return [feature for recorder in recorders for feature in recorder.features()]

        self._made_from = self._state()
        self._running = self.model
        if any(_hooks(module) for module in _modules(self.model)):
            return  # Whoever watches the teacher through hooks sees the teacher itself.
        # The student's mixed precision is not for the proof.
        with torch.autocast(device_type, enabled=False):
            self._running = fast_copy(self.model, self.options, run)
        # The taps learn what they must clone, which they cannot in a compiled forward.
        with self.options.precision(device_type):
            run(self._running)

    def _state(self) -> list[object]:
        """Tell by comparison whether weights were loaded, exchanged or moved, or hooks added."""
        if not self.options.fold_bn and self.options.dtype is None:
            return []
        modules = _modules(self.model)
        tensors = [
            (id(tensor), tensor._version, tensor.data_ptr())
            for module in modules
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        ]
        return [*tensors, *(hook for module in modules for hook in _hooks(module))]

    def _freeze(self) -> None:
        modules = _modules(self.model)
        norms = [m for m in modules if isinstance(m, _BatchNorm)] if self.train_bn else []
        if not any(module.training for module in modules) and not norms:
            return
        self.model.eval()
        for norm in norms:
            # Training without tracking: statistics of the batch, none written.
            norm.training, norm.track_running_stats = True, False


def _modules(model: nn.Module) -> list[nn.Module]:
    """List the modules of a model, which ``model.modules()`` does slowly, for each step."""
    found, left = [], [model]
    while left:
        module = left.pop()
        found.append(module)
        left.extend(child for child in module._modules.values() if child is not None)
    return found


def _hooks(module: nn.Module) -> list[object]:
    """Return the hooks on a module's forward, but for those of taps and of memory formats."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    watching = (hook for hook in hooks if not isinstance(hook, TapHook))
    return [hook for hook in watching if hook not in (contiguous_inputs, contiguous_gradients)]


def build_teacher(
    teacher: Mapping | str | Path | nn.Module,
    checkpoint: str | Path | None,
    student_preprocessor: BaseDataPreprocessor,
    train_bn: bool = False,
    allow_mismatch: Sequence[str] = (),
    options: TeacherOptions | None = None,
    trust_checkpoint: bool = False,
) -> FrozenTeacher:
    """Build a teacher, give it its weights and freeze it.

    Args:
        teacher (dict | str | Path | nn.Module): A model config, a config path or a model.
        checkpoint (str | Path, optional): Path or URL of its weights; ``'random'`` for random
            ones; None for those of the config path's metafile, or the model's own.
        student_preprocessor (BaseDataPreprocessor): The student's. A teacher without a
            data_preprocessor is taken to be normalised likewise.
        train_bn (bool): See :class:`FrozenTeacher`. Defaults to False.
        allow_mismatch (Sequence[str]): Patterns of the teacher's parameter names that the
            checkpoint need not fit. Defaults to ().
        options (TeacherOptions, optional): How it is run. Defaults to None.
        trust_checkpoint (bool): Whether code in the checkpoint may run. Defaults to False.

    Returns:
        FrozenTeacher: The teacher.

    Raises:
        ValueError: If no checkpoint is known.
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
    if isinstance(teacher, nn.Module):
        model = teacher
        # MMEngine gives a model that was built without a data_preprocessor one that does nothing.
        own_pixels = hasattr(getattr(model, 'data_preprocessor', None), '_enable_normalize')
    else:
        source = read_source('teacher', teacher)
        checkpoint = checkpoint or source.checkpoint
        _check_known(teacher, checkpoint)
        own_pixels = source.cfg.get('data_preprocessor') is not None
        model = source.build('teacher')
    teacher_pixels = pixels
    if own_pixels:
        teacher_pixels = PixelFormat.of(model.data_preprocessor)
        teacher_pixels.check('teacher', image_channels(model))
    if checkpoint == RANDOM:
        _randomize(model, teacher_pixels)
    elif checkpoint is not None:
        load_weights(model, checkpoint, 'teacher_ckpt', allow_mismatch, trust_checkpoint)
        check_finite(model, f"teacher_ckpt='{checkpoint}'")
    return FrozenTeacher(model, Renormalize(pixels, teacher_pixels), train_bn, options)


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
def _randomize(model: nn.Module, pixels: PixelFormat) -> None:
    """Draw weights without downloading any, and set BatchNorm's statistics from noise.

    With the statistics that BatchNorm starts with, the features of a deep network explode.
    """
    for module in model.modules():
        module_cfg = getattr(module, 'init_cfg', None)
        if module_cfg:
            cfgs = [module_cfg] if isinstance(module_cfg, Mapping) else module_cfg
            module.init_cfg = [c for c in cfgs if c['type'] not in PRETRAINED] or None
    if hasattr(model, 'init_weights'):
        model.init_weights()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.training, norm.momentum = True, 1.0
    # The noise is normalised as most teachers want it; this one may have a format of its own.
    images = Renormalize(PHOTOGRAPHS, pixels)(_image_like_noise(model))
    model.extract_feat(images) if hasattr(model, 'extract_feat') else model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.training, norm.momentum = False, momentum


def _image_like_noise(model: nn.Module, batch_size: int = 8, size: int = 128) -> Tensor:
    """Add up noise of all sizes, from single pixels to whole images.

    Patches of white noise all look alike deep in a network. With the statistics of that, the
    features of an image explode.
    """
    sides = [2**power for power in range(size.bit_length())]
    noises = [dummy_images(model, batch_size, side) for side in sides]
    images = sum(F.interpolate(noise, size=(size, size)) for noise in noises)
    return images / len(sides) ** 0.5
