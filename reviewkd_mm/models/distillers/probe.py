"""Run a model once on a dummy image to see what its taps give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from reviewkd_mm.errors import RunError, config_key
from reviewkd_mm.models.recorders import Recorder

# Fully convolutional models take the small image; some transformers insist on their own size.
IMAGE_SIZES = (64, 224)

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
    sizes: Sequence[int | tuple[int, int]] = IMAGE_SIZES,
) -> Forward:
    """Find the shortest forward that reaches all taps: backbone and neck, or the whole network.

    The model runs in eval mode and is left as it was.

    Args:
        model (nn.Module): A model of MMPretrain, MMDetection or MMSegmentation, or any
            ``BaseModel``.
        recorders (Mapping[str, Recorder]): What is to be recorded, by config key. They hold
            the features of the dummy image afterwards.
        sizes (Sequence[int | tuple[int, int]]): Sizes of the dummy image, of which the first is
            taken that the model takes. Defaults to 64 and 224 pixels.

    Returns:
        Callable[[nn.Module, Tensor], object]: The forward.

    Raises:
        ValueError: If the model has no module of a tap's path.
        RuntimeError: If no forward reaches a tap, with what can be tapped instead.
    """
    for key, recorder in recorders.items():
        with config_key(key):
            recorder.attach(model)
    forwards = [forward_tensor]
    if hasattr(model, 'extract_feat'):
        forwards.insert(0, forward_features)
    failure = None
    for forward in forwards:
        try:
            _record_dummy(model, recorders.values(), forward, sizes)
        except FAILURES as error:  # A two-stage detector's 'tensor' needs samples, for example.
            failure = error
            continue
        if all(recorder.recorded for recorder in recorders.values()):
            return forward
    raise RunError(_why(model, recorders, failure)) from failure


def _record_dummy(
    model: nn.Module,
    recorders: Iterable[Recorder],
    forward: Forward,
    sizes: Sequence[int | tuple[int, int]],
) -> None:
    """Run a model on noise, in the first image size that it takes."""
    for size in sizes:
        try:
            record_images(model, recorders, forward, dummy_images(model, size=size))
            return
        except FAILURES:
            if size == sizes[-1]:
                raise


@torch.no_grad()
def record_images(
    model: nn.Module, recorders: Iterable[Recorder], forward: Forward, images: Tensor
) -> None:
    """Run a model on images in eval mode; it is left as it was.

    Args:
        model (nn.Module): The model.
        recorders (Iterable[Recorder]): They hold the features afterwards.
        forward (Callable[[nn.Module, Tensor], object]): How it is run.
        images (Tensor): Images (N, C, H, W).
    """
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for recorder in recorders:
            stack.enter_context(recorder.recording(model))
        forward(model, images)


def _why(model: nn.Module, recorders: Mapping[str, Recorder], failure: Exception | None) -> str:
    reasons = []
    for key, recorder in recorders.items():
        try:
            recorder.features()
        except RuntimeError as error:
            reasons.append(f'{key}: {error}')
    if failure is not None:
        reasons.append(f'{type(model).__name__} failed on a dummy image: {failure}')
    return '; '.join(reasons)


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
