"""Write a student as an ONNX file, for runtimes that know nothing of PyTorch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.utils import digit_version
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError, RunError
from reviewkd_mm.export.student import build_student, student_config
from reviewkd_mm.models.distillers.checkpoint import read_checkpoint
from reviewkd_mm.models.distillers.normalization import PixelFormat
from reviewkd_mm.models.distillers.probe import FAILURES, dummy_images
from reviewkd_mm.utils import forked_rng

PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
# The oldest that was tried with the packages above; torch 2.6 cannot translate with them.
OLDEST_TORCH = '2.9'
INPUT = 'images'
# What MMDetection's dense heads return: a list of maps, one for each level, of each of these.
DENSE = ('cls_scores', 'bbox_preds', 'extra')
# Of the greatest output, and of outputs below 1 absolute.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class OnnxFile:
    """What was written.

    Args:
        path (Path): The file.
        shape (list[int | str]): Of its input; a size that is left open is a name.
        outputs (list[str]): Names of its outputs.
        part (str): How much of the student it holds.
        difference (float): Greatest difference to the student's own outputs, relative to the
            greatest output where that is above 1.
    """

    path: Path
    shape: list[int | str]
    outputs: list[str]
    part: str
    difference: float


class RawOutputs(nn.Module):
    """A student as a function of a batch, without what depends on what is found in an image.

    A classifier or a segmentor gives its logits, a detector of one stage what its head gives at
    each level of the neck, one of two stages the features of its neck and what its RPN gives.

    Args:
        model (nn.Module): The student.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.is_two_stage = hasattr(model, 'rpn_head') and hasattr(model, 'roi_head')

    @property
    def part(self) -> str:
        """How much of the student this is."""
        if self.is_two_stage:
            return 'backbone, neck and RPN; proposals and RoI heads are left out'
        if hasattr(self.model, 'bbox_head'):
            return 'backbone, neck and head; decoding of boxes and NMS are left out'
        return 'the whole network'

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Run the student.

        Args:
            images (Tensor): Batch (N, C, H, W), normalised as the data_preprocessor does it.

        Returns:
            dict[str, Tensor]: Outputs by name.
        """
        if self.is_two_stage:
            features = self.model.extract_feat(images)
            groups = (features, *self.model.rpn_head(features))
            return _name(groups, ('features', 'rpn_cls_scores', 'rpn_bbox_preds'))
        outputs = self.model(images, mode='tensor')
        if isinstance(outputs, Tensor):
            return {'logits': outputs}
        return _name(outputs, DENSE)


def _name(groups: Sequence, names: Sequence[str]) -> dict[str, Tensor]:
    named = {}
    for index, group in enumerate(groups):
        name = names[index] if index < len(names) else f'{names[-1]}_{index}'
        if isinstance(group, Tensor):
            named[name] = group
            continue
        named.update((f'{name}_{level}', value) for level, value in enumerate(group))
    return named


def export_onnx(
    cfg: Config,
    checkpoint: str | Path,
    out: str | Path,
    image_size: tuple[int, int],
    batch_size: int | None = None,
    free_size: bool = False,
) -> OnnxFile:
    """Write the student of a distiller, or an ordinary model, as an ONNX file.

    The file is run with ONNX Runtime on other images than it was made with, and compared with the
    student, before it is put in its place. Its metadata tell mean, std, channel order and padding
    of the images that it reads, and the names of the classes where the checkpoint has them.

    Args:
        cfg (Config): A training config, of a distiller or of an ordinary model.
        checkpoint (str | Path): A checkpoint of that training, or of an exported student.
        out (str | Path): Where the file goes.
        image_size (tuple[int, int]): Height and width of the images.
        batch_size (int, optional): Images in a batch. Defaults to None, which leaves it open.
        free_size (bool): Whether height and width are left open. Defaults to False.

    Returns:
        OnnxFile: What was written.

    Raises:
        ValueError: If a package for it is not installed, or a size is less than 1.
        FileNotFoundError: If there is no such checkpoint.
        RuntimeError: If the checkpoint does not fit, or the student cannot be exported, or the
            file gives other outputs.
    """
    check_packages()
    for key, value in (('image_size', min(image_size)), ('batch_size', batch_size)):
        if value is not None and value < 1:
            raise ConfigError(f'{key}: expected at least 1, got {value}')
    stock, out = student_config(cfg), Path(out)
    raw = RawOutputs(build_student(stock, str(checkpoint))).eval()
    with forked_rng(0), torch.no_grad():
        # Of a batch of one, torch would take the 1 for a constant.
        images = _images(raw, batch_size or 2, image_size)
        outputs = _run(raw, images)
        program = _export(raw, images, list(outputs), batch_size is None, free_size)
        program.model.metadata_props.update(_metadata(raw.model, str(checkpoint)))
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f'{out.name}.partial')
        try:
            program.save(str(partial), external_data=False)
            others = _other_images(raw, images, batch_size is None, free_size)
            shape, difference = _compare(raw, partial, [images, others])
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    return OnnxFile(out, shape, list(outputs), raw.part, difference)


def check_packages() -> None:
    """Check that what writes and runs an ONNX file is there.

    Raises:
        ValueError: If a package is not installed, or torch is too old.
    """
    if digit_version(torch.__version__) < digit_version(OLDEST_TORCH):
        raise ConfigError(
            f'an ONNX file needs torch {OLDEST_TORCH} or later, found {torch.__version__}; an '
            'exported student can be written as one elsewhere'
        )
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f'an ONNX file needs {", ".join(missing)}; to install it: pip install '
            f'{" ".join(missing)}'
        )


def _images(raw: RawOutputs, count: int, size: tuple[int, int]) -> Tensor:
    images = dummy_images(raw.model, count, max(size))
    return images[..., : size[0], : size[1]].contiguous()


def _other_images(raw: RawOutputs, images: Tensor, free_batch: bool, free_size: bool) -> Tensor:
    """Draw images again, in other numbers and sizes where these are open."""
    count, _, height, width = images.shape
    if free_size:
        # Detectors pad to multiples of 32.
        height, width = height + 32, width + 64
    return _images(raw, count + 1 if free_batch else count, (height, width))


def _run(raw: RawOutputs, images: Tensor) -> dict[str, Tensor]:
    try:
        return raw(images)
    except FAILURES as error:
        raise RunError(
            f'{type(raw.model).__name__} cannot be exported: it does not run on images alone '
            f'({type(error).__name__}: {error})'
        ) from error


def _export(
    raw: RawOutputs, images: Tensor, names: list[str], free_batch: bool, free_size: bool
) -> Any:
    free: dict[int, Any] = {0: torch.export.Dim('batch', min=1)} if free_batch else {}
    if free_size:
        free.update({2: torch.export.Dim('height', min=32), 3: torch.export.Dim('width', min=32)})
    try:
        with _quiet():
            return torch.onnx.export(
                raw,
                (images,),
                input_names=[INPUT],
                output_names=names,
                dynamic_shapes=({**free},) if free else None,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # Each stage of the exporter raises errors of its own.
        cause = error.__cause__ or error
        reason = str(cause).strip().partition('\n')[0]
        advice = '; a fixed batch and image size may help' if free else ''
        raise RunError(
            f'torch.onnx cannot export {type(raw.model).__name__} ({raw.part}): '
            f'{type(cause).__name__}: {reason}{advice}'
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on packages that it does not need out of the terminal."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def _metadata(model: nn.Module, checkpoint: str) -> dict[str, str]:
    pixels = PixelFormat.of(getattr(model, 'data_preprocessor', None))
    metadata = dict(
        mean=json.dumps([round(value, 5) for value in pixels.mean.tolist()]),
        std=json.dumps([round(value, 5) for value in pixels.std.tolist()]),
        reversed_channels=json.dumps(pixels.swapped),
        pad_value=json.dumps(pixels.pad_value),
    )
    saved = read_checkpoint(checkpoint, 'checkpoint')
    classes = (saved.get('meta') or {}).get('dataset_meta', {}).get('classes')
    if classes:
        metadata['classes'] = json.dumps(list(classes))
    return metadata


def _compare(raw: RawOutputs, file: Path, batches: list[Tensor]) -> tuple[list, float]:
    """Return the shape of the file's input and how far its outputs are from the student's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    worst = 0.0
    for images in batches:
        expected = raw(images)
        found = session.run(list(expected), {INPUT: images.numpy()})
        for (name, output), value in zip(expected.items(), found, strict=True):
            if tuple(output.shape) != value.shape:
                raise RunError(
                    f"ONNX Runtime's {name} is {value.shape}, the student's is "
                    f'{tuple(output.shape)} for images {tuple(images.shape)}'
                )
            scale = max(1.0, output.abs().max().item())
            worst = max(worst, (output - torch.from_numpy(value)).abs().max().item() / scale)
    if not worst <= TOLERANCE:
        raise RunError(
            f"ONNX Runtime's outputs differ from the student's by {worst:.2g} of the greatest: "
            f'expected {TOLERANCE} at most; nothing was written'
        )
    return session.get_inputs()[0].shape, worst
