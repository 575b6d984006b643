"""Count what a network costs for an image."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from textwrap import shorten

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn

from reviewkd_mm.checks.image_size import Size
from reviewkd_mm.models.distillers.probe import Forward, dummy_images, forward_features

WHOLE, FEATURES = 'whole network', 'backbone and neck'
LONGEST_REASON = 200  # An error may print a tensor.


def count_parameters(module: nn.Module) -> int:
    """Count the parameters of a module, each once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(model: nn.Module, size: Size) -> tuple[int | None, str]:
    """Count the FLOPs, multiply-adds as MMEngine counts them, of inference on one image.

    Post-processing is not counted. A two-stage detector is given as many proposals as its RPN
    keeps at most. A copy of the model is run, once.

    Args:
        model (nn.Module): A model of MMPretrain, MMDetection or MMSegmentation, or any
            ``BaseModel``.
        size (tuple[int, int]): (height, width) of the image.

    Returns:
        tuple[int | None, str]: The FLOPs and what was counted: the whole network or, where that
        cannot be run so, backbone and neck. None with the reason where nothing can be counted.
    """
    parts = {WHOLE: partial(_forward_whole, samples=[_sample(size)])}
    if hasattr(model, 'extract_feat'):
        parts[FEATURES] = forward_features
    reason = ''
    for part, forward in parts.items():
        try:
            copied = copy_to(model, 'cpu')
            _give_proposals(copied)
            return _count(copied, forward, size), part
        except Exception as error:  # A network may raise anything where it cannot run.
            reason = shorten(f'{type(error).__name__}: {error}', LONGEST_REASON)
    return None, f'not counted: {reason}'


def copy_to(model: nn.Module, device: str) -> nn.Module:
    """Copy a module to a device, in eval mode."""
    return copy.deepcopy(model).to(device).eval()


@torch.no_grad()
def _count(model: nn.Module, forward: Forward, size: Size) -> int:
    # What get_model_complexity_info counts them with, without a second run for activations.
    analyzer = FlopAnalyzer(_Run(model, forward), (dummy_images(model, size=size),))
    with _no_tracer_warnings():
        return int(analyzer.total())


class _Run(nn.Module):
    """Call a model as a function of its image alone."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model = model
        self.run = forward

    def forward(self, image: Tensor) -> object:
        return self.run(self.model, image)


def _forward_whole(model: nn.Module, inputs: Tensor, samples: list[BaseDataElement]) -> object:
    return model(inputs, samples, mode='tensor')


def _sample(size: Size) -> BaseDataElement:
    """Say of an image what detectors ask: it fills its batch and was not resized."""
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), size)
    return BaseDataElement(metainfo=dict(shapes, scale_factor=(1.0, 1.0), flip=False))


def _give_proposals(model: nn.Module) -> None:
    """Let a two-stage detector run without looking at values: with as many regions as it keeps.

    The regions would be chosen by score, and each pooled from the level of its size. Neither
    costs anything in FLOPs. What runs on the pooled features does, and depends on their number.
    """
    if not (getattr(model, 'rpn_head', None) and getattr(model, 'roi_head', None)):
        return
    settings = model.rpn_head.test_cfg
    count = settings['max_per_img'] if isinstance(settings, Mapping) else 1000
    model.rpn_head.predict_by_feat = partial(_propose, count)
    for module in model.roi_head.modules():
        if hasattr(module, 'roi_layers') and hasattr(module, 'out_channels'):
            module.forward = _pooling(module)


def _propose(count: int, scores: list[Tensor], *args: object, **kwargs: object) -> list:
    boxes = scores[0].new_zeros(count, 4)
    return [InstanceData(bboxes=boxes, scores=boxes[:, 0], labels=boxes[:, 0].long())]


def _pooling(extractor: nn.Module) -> Callable[..., Tensor]:
    channels = extractor.out_channels
    height, width = extractor.roi_layers[0].output_size

    def pool(features: list[Tensor], rois: Tensor, *args: object, **kwargs: object) -> Tensor:
        return features[0].new_zeros(rois.shape[0], channels, height, width)

    return pool


@contextmanager
def _no_tracer_warnings() -> Iterator[None]:
    """Keep quiet of operations that cost nothing, and of values that a trace would fix."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)
