"""Build the models of a pair, a batch for them and an optimizer, all without a download."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from step_rows import Options
from torch import nn

from reviewkd_mm import cli
from reviewkd_mm.config import is_distiller
from reviewkd_mm.engine.optimizers import AmpOptimWrapper
from reviewkd_mm.export.student import build_student, student_config
from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.registry import MODELS

BOXES = 7  # An image of COCO has 7.3 on average.


def load_pair(file: str) -> Config:
    """Read a distiller's config.

    Args:
        file (str): Path of the config file.

    Raises:
        SystemExit: If it is no distiller's.
    """
    cfg = cli.load_config(file)
    if not is_distiller(cfg.model):
        raise SystemExit(f'error: --config {file}: its model has no student and teacher')
    return cfg


def build_alone(cfg: Config, device: str) -> BaseModel:
    """Build the student of a distiller's config as an ordinary model with random weights.

    Args:
        cfg (Config): The distiller's training config.
        device (str): Where it is put, in training mode.
    """
    return build_student(student_config(cfg)).to(device).train()


def build_distiller(cfg: Config, options: Options, device: str) -> Distiller:
    """Build a distiller with random weights and given settings.

    Args:
        cfg (Config): Its training config.
        options (Options): Settings that replace those of the config.
        device (str): Where it is put, in training mode.
    """
    model = copy.deepcopy(cfg.model)
    # Without init_weights() the student loads no Pretrained weights either.
    model.update(asdict(options), teacher_ckpt='random')
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return MODELS.build(model).to(device).train()


def is_detector(student: BaseModel) -> bool:
    """Return whether a student detects objects; if not, it classifies images."""
    return not type(student).__module__.startswith('mmpretrain.')


def generate_batch(student: BaseModel, batch_size: int, image_size: int) -> dict[str, Any]:
    """Generate what a dataloader would give: square uint8 images with boxes and masks, or labels.

    Args:
        student (BaseModel): The student, a classifier or a detector.
        batch_size (int): Number of images.
        image_size (int): Height and width in pixels.

    Returns:
        dict: ``inputs`` and ``data_samples``.
    """
    shape = (3, image_size, image_size)
    if not is_detector(student):
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(0) for _ in range(batch_size)]
        images = torch.randint(256, (batch_size, *shape), dtype=torch.uint8)
        return dict(inputs=images, data_samples=samples)
    from mmdet.testing import demo_mm_inputs

    batch = demo_mm_inputs(batch_size, shape, num_items=[BOXES] * batch_size, with_mask=True)
    for sample in batch['data_samples']:
        sample.gt_instances.labels.zero_()  # The one class that every detector has.
    return batch


def build_optimizer(model: nn.Module, amp: bool) -> OptimWrapper:
    """Build an SGD that does all the work of an update and changes nothing.

    Args:
        model (nn.Module): The model that is trained.
        amp (bool): Whether its forward runs under autocast to bf16.
    """
    sgd = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)
    if amp:
        return AmpOptimWrapper(optimizer=sgd, dtype='bfloat16')
    return OptimWrapper(sgd)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MMEngine from logging every parameter that it initialises."""
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(level)
