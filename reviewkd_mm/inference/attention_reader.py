"""Read what a student reviews in image files, from the config and checkpoint of its training."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import Tensor, nn

from reviewkd_mm.config import is_distiller
from reviewkd_mm.errors import ConfigError, config_key
from reviewkd_mm.inference.attention import StageMaps, StageReader, choose_transfer
from reviewkd_mm.inference.build import build_predictor
from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.models.distillers.checkpoint import load_weights, read_checkpoint
from reviewkd_mm.models.distillers.teacher_options import OLD_NAMES, TeacherOptions
from reviewkd_mm.registry import MODELS

# How a training runs its models, which changes little of what they compute, or what they compute
# for a batch rather than for an image.
RUN_OPTIONS = ('teacher_options', 'transfers_compile', *OLD_NAMES)


@dataclass(frozen=True)
class Review:
    """What a student reviews in an image.

    Args:
        image (np.ndarray): The image as the student gets it, (H, W, 3), uint8, RGB.
        area (tuple[int, int]): Height and width that the maps cover: those of the image and its
            padding, which is on the right and at the bottom.
        found (str): What the student found in it, such as ``'2 cat, 1 dog'``.
        transfer (str): Name of the transfer.
        stages (list[StageMaps]): The stages, shallow to deep.
    """

    image: np.ndarray
    area: tuple[int, int]
    found: str
    transfer: str
    stages: list[StageMaps]


class ReviewReader:
    """A distiller that shows what its student reviews.

    Images are prepared by the student's test pipeline, as for a prediction.

    Args:
        cfg (Config): The training config of a distiller.
        checkpoint (str): Path or URL of a checkpoint of that training.
        transfer (str, optional): Name of a transfer with a ReviewConnector. Defaults to None,
            which means the first one that has it.
        before (str, optional): Path or URL of a checkpoint of the student, or of its distiller,
            whose features are shown beside. Defaults to None.
        device (str, optional): Where the models run. Defaults to None, which means MMEngine's
            choice.

    Raises:
        FileNotFoundError: If a checkpoint is missing, the teacher's included.
        RuntimeError: If a checkpoint does not fit.
        ValueError: If the config is no distiller's, no transfer has a ReviewConnector, or the
            checkpoint is of a student alone.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str,
        transfer: str | None = None,
        before: str | None = None,
        device: str | None = None,
    ) -> None:
        if not is_distiller(cfg.get('model') or {}):
            raise ConfigError(
                f"{cfg.filename}: expected the config of a distiller, whose model has 'student' "
                f"and 'teacher', got model.type={(cfg.get('model') or {}).get('type')!r}"
            )
        self.predictor = build_predictor(cfg, checkpoint, device)
        self.distiller = _build_distiller(cfg, self.predictor.model)
        self.transfer = choose_transfer(self.distiller.transfers, transfer)
        weights = _read_weights(checkpoint, self.transfer)
        with config_key(f"checkpoint='{checkpoint}'"):
            self.distiller.load_state_dict(weights)
        earlier = None
        if before is not None:
            earlier = copy.deepcopy(self.distiller.student)
            load_weights(earlier, before, 'before')
        self.reader = StageReader(self.distiller, self.transfer, earlier)

    def read(self, image: Path) -> Review:
        """Read what the student reviews in an image file.

        Args:
            image (Path): The file.

        Returns:
            Review: The image with the maps of each stage.
        """
        given, prepared, found = self._predict(image)
        inputs = prepared['inputs']
        stages = self.reader.read(inputs, prepared.get('data_samples'))
        pixels = _to_pixels(given, is_rgb=not getattr(self.predictor, 'reads_files', True))
        return Review(pixels, tuple(inputs.shape[-2:]), found, self.transfer, stages)

    def _predict(self, image: Path) -> tuple[Tensor, dict[str, Any], str]:
        """Return what goes into the student's data_preprocessor, what comes out, and is found."""
        seen: list[tuple[Tensor, dict[str, Any]]] = []

        def see(module: nn.Module, args: tuple, output: dict[str, Any]) -> None:
            seen.append((args[0]['inputs'][0], output))

        preprocessor = self.distiller.student.data_preprocessor
        handle = preprocessor.register_forward_hook(see)
        try:
            found = self.predictor.predict(image).found
        finally:
            handle.remove()
        return *seen[-1], found


def _read_weights(checkpoint: str, transfer: str) -> dict[str, Tensor]:
    """Read the weights of a distiller, which takes those of a student alone too."""
    content = read_checkpoint(checkpoint, 'checkpoint')
    weights = content.get('state_dict', content)
    weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    prefix = f'transfers.{transfer}.connector.'
    if not any(name.startswith(prefix) for name in weights):
        raise ConfigError(
            f"checkpoint='{checkpoint}' has no connector ('{prefix}*'): it is of a student alone "
            'or of another distiller; expected a checkpoint of the distiller, as its training '
            'saves it'
        )
    return weights


def _build_distiller(cfg: Config, student: nn.Module) -> Distiller:
    """Build the distiller around a student, on the student's device, in eval mode."""
    device = next(student.parameters()).device
    model = {key: value for key, value in cfg.model.items() if key not in RUN_OPTIONS}
    old = {key: cfg.model[key] for key in OLD_NAMES if key in cfg.model}
    options = TeacherOptions.of(cfg.model.get('teacher_options'), old)
    model['teacher_options'] = TeacherOptions(
        input_size=options.input_size, interpolation=options.interpolation
    )
    # Teacher and connectors are built on the CPU, where a student must be to be tried with them.
    model['student'] = student.cpu()
    with MODELS.root.switch_scope_and_registry(cfg.get('default_scope')) as registry:
        distiller = registry.build(model)
    return distiller.to(device).eval()


def _to_pixels(image: Tensor, is_rgb: bool) -> np.ndarray:
    """Return an image (C, H, W) before normalisation as one to look at, (H, W, 3), uint8, RGB."""
    pixels = image.float().cpu()
    if image.is_floating_point():  # The pipeline has scaled or normalised it already.
        pixels = 255 * (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-6)
    if len(pixels) != 3:
        pixels = pixels.mean(dim=0, keepdim=True).expand(3, -1, -1)
    elif not is_rgb:
        pixels = pixels.flip(0)
    return pixels.byte().permute(1, 2, 0).numpy()
