"""Run a model once on a dummy image to see what its taps give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

import torch
from torch import Tensor, nn

from reviewkd_mm.errors import RunError, config_key
from reviewkd_mm.models.distillers.channel_axis import check_channel_axis, may_be_misread
from reviewkd_mm.models.recorders import Recorder
from reviewkd_mm.utils import forked_rng

# Fully convolutional models take the small image; others insist on their own size, or more.
IMAGE_SIZES = tuple((size, size) for size in (64, 224, 256, 384, 32, 512))

Forward = Callable[[nn.Module, Tensor], object]

# What a model raises at an image that it cannot take, or in a mode that it does not support.
FAILURES = (RuntimeError, AssertionError, TypeError, ValueError, AttributeError, KeyError)


def forward_features(model: nn.Module, inputs: Tensor) -> object:
    """Run backbone and neck, no head."""
    return model.extract_feat(inputs)


def forward_tensor(model: nn.Module, inputs: Tensor) -> object:
    """Run the whole network without post-processing."""
    return model(inputs, mode='tensor')


@torch.no_grad()
def probe(
    model: nn.Module,
    recorders: Mapping[str, Recorder],
    sizes: Sequence[tuple[int, int]] = IMAGE_SIZES,
) -> Forward:
    """Find the shortest forward that reaches all taps: backbone and neck, or the whole network.

    The model runs in eval mode and is left as it was.

    Args:
        model (nn.Module): A model of MMPretrain, MMDetection or MMSegmentation, or any
            ``BaseModel``.
        recorders (Mapping[str, Recorder]): What is to be recorded, by config key. They hold
            the features of the dummy image afterwards.
        sizes (Sequence[tuple[int, int]]): Sizes of the dummy image, of which the first is taken
            that the model takes. Defaults to :data:`IMAGE_SIZES`.

    Returns:
        Callable[[nn.Module, Tensor], object]: The forward.

    Raises:
        ValueError: If the model has no module of a tap's path, or a tap reads no features, or
            their channels on the wrong axis.
        RuntimeError: If no forward reaches a tap, with what can be tapped instead.
    """
    for key, recorder in recorders.items():
        with config_key(key):
            recorder.attach(model)
    forwards = [forward_tensor]
    if hasattr(model, 'extract_feat'):
        forwards.insert(0, forward_features)
    failure, missing = None, []
    for forward in forwards:
        try:
            size = _record_dummy(model, recorders.values(), forward, sizes)
        except FAILURES as error:
            failure = error
            continue
        failure, missing = None, _name_missing(recorders)
        if not missing:
            _check_features(model, recorders, forward, size)
            return forward
    if failure is not None:
        missing = _why_failed(model, recorders, missing, failure)
    raise RunError('; '.join(missing)) from failure


def _name_missing(recorders: Mapping[str, Recorder]) -> list[str]:
    """Say of each recorder that the forward did not reach which tap it was."""
    missing = []
    for key, recorder in recorders.items():
        try:
            if not recorder.recorded:
                with config_key(key):
                    recorder.features()
        except RunError as error:
            missing.append(str(error))
    return missing


def _why_failed(
    model: nn.Module, recorders: Mapping[str, Recorder], missing: list[str], failure: Exception
) -> list[str]:
    name = type(model).__name__
    if not missing:  # It has not even run as far as its neck.
        return [f'{", ".join(recorders)}: {name} failed on a dummy image: {failure}']
    # A two-stage detector's mode 'tensor' looks for proposals, which takes samples.
    further = (
        f'{name} runs no further than backbone and neck on an image without data samples: tap a '
        f"module of these (mode 'tensor' raised {type(failure).__name__}: {failure})"
    )
    return [*missing, further]


def _record_dummy(
    model: nn.Module,
    recorders: Iterable[Recorder],
    forward: Forward,
    sizes: Sequence[tuple[int, int]],
) -> tuple[int, int]:
    """Run a model on noise, in the first image size that it takes, and return that."""
    *others, last = sizes
    for size in others:
        with suppress(*FAILURES):
            record_images(model, recorders, forward, dummy_images(model, size=size))
            return size
    record_images(model, recorders, forward, dummy_images(model, size=last))
    return last


def _check_features(
    model: nn.Module, recorders: Mapping[str, Recorder], forward: Forward, size: tuple[int, int]
) -> None:
    """Check that the taps read features, with the channels on the axis that they say.

    Where the shapes of a square image leave that open, the model runs on another one.
    """
    height, width = size
    suspects = []
    for key, recorder in recorders.items():
        with config_key(key):
            suspects += [
                (key, tap) for tap in recorder.taps if may_be_misread(tap) or height != width
            ]
    if not suspects:
        return
    with closing(Recorder([copy.deepcopy(tap) for _, tap in suspects])) as twins:
        with forked_rng(0):  # Its noise takes no random numbers from what is built next.
            images = dummy_images(model, size=(2 * height, 3 * width))
            with suppress(Exception):  # Many a model takes square images alone, or one size.
                record_images(model, [twins], forward, images)
        for (key, tap), twin in zip(suspects, twins.taps, strict=True):
            with config_key(key):
                check_channel_axis(tap, twin)


def record_images(
    model: nn.Module,
    recorders: Iterable[Recorder],
    forward: Forward,
    images: Tensor,
    gradients: bool = False,
) -> None:
    """Run a model on images in eval mode; it is left as it was.

    Args:
        model (nn.Module): The model.
        recorders (Iterable[Recorder]): They hold the features afterwards.
        forward (Callable[[nn.Module, Tensor], object]): How it is run.
        images (Tensor): Images (N, C, H, W).
        gradients (bool): Whether the features keep their graph. Defaults to False.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(gradients))
        stack.enter_context(evaluating(model))
        for recorder in recorders:
            stack.enter_context(recorder.recording(model))
        forward(model, images)


def dummy_images(
    model: nn.Module, batch_size: int = 1, size: int | tuple[int, int] = 64
) -> Tensor:
    """Draw noise images that a model can read.

    Args:
        model (nn.Module): The model.
        batch_size (int): Number of images. Defaults to 1.
        size (int | tuple[int, int]): Height and width in pixels; a number is both. Defaults to
            64.

    Returns:
        Tensor: Images (N, C, H, W) on the model's device and in its dtype.
    """
    parameter = next(model.parameters(), torch.empty(0))
    sides = (size, size) if isinstance(size, int) else size
    images = torch.randn(batch_size, image_channels(model), *sides)
    return images.to(device=parameter.device, dtype=parameter.dtype)


def image_channels(model: nn.Module) -> int:
    """Return the number of channels of a model's images, which its first convolution tells.

    Args:
        model (nn.Module): The model.
    """
    stems = (m for m in model.modules() if isinstance(m, nn.Conv2d) or _is_focus(m))
    stem = next(stems, None)
    if stem is None:
        return 3
    return image_channels(stem.conv) // 4 if _is_focus(stem) else stem.in_channels


def _is_focus(module: nn.Module) -> bool:
    """Tell the stem of YOLOX, whose convolution sees each 2x2 pixels as channels of one."""
    return type(module).__name__ == 'Focus'


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode inside the block and every module back after it.

    Args:
        model (nn.Module): The model.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
