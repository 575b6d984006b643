"""The MMDetection config of a detector of Detectron2, told from its tensors."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from converting import ConversionError
from mmengine.config import Config
from mmengine.model import BaseModel
from parameter_names import BODY
from torch import Tensor

from reviewkd_mm.models.distillers.model_source import ModelSource, config_root

ARCHS = {
    'retinanet': 'retinanet/retinanet_r50-caffe_fpn_1x_coco.py',
    'faster-rcnn': 'faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',
    'mask-rcnn': 'mask_rcnn/mask-rcnn_r50-caffe_fpn_1x_coco.py',
}
# ResNets by the blocks of their four stages and whether these are bottlenecks.
DEPTHS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
MSRA_PIXELS = {'mean': [103.53, 116.28, 123.675], 'std': [1.0, 1.0, 1.0]}
TORCHVISION_PIXELS = {'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375]}
AUTHORS_R18_PIXELS = {kind: values[::-1] for kind, values in TORCHVISION_PIXELS.items()}
# Said even where MMDetection's stock config has the same.
STATED = ('mean', 'std', 'bgr_to_rgb', 'style')


@dataclass
class Backbone:
    """What the tensors of a backbone say of it.

    Args:
        name (str): Such as ``'ResNet-50'``.
        config (dict[str, Any]): Its MMDetection config, beside what the stock detector has.
        channels (list[int]): Of its four levels, shallow to deep.
        pixels (dict[str, Any]): The settings of the data_preprocessor that it needs.
        hint (str): Where these come from.
    """

    name: str
    config: dict[str, Any]
    channels: list[int]
    pixels: dict[str, Any]
    hint: str


def read_backbone(part: Mapping[str, Any], is_detector: bool) -> Backbone:
    """Tell the backbone from the names and shapes of its tensors.

    Args:
        part (Mapping[str, Any]): Tensors by Detectron2's names.
        is_detector (bool): Whether they are a whole detector's.

    Raises:
        ConversionError: If it is neither a ResNet nor the authors' MobileNetV2.
    """
    if any(name.startswith(f'{BODY}features.') for name in part):
        return _mobilenet_v2()
    found = {match[1] for name in part if (match := re.match(rf'{BODY}(res\d\.\d+)\.', name))}
    blocks = tuple(
        sum(block.startswith(f'res{stage}.') for block in found) for stage in range(2, 6)
    )
    is_bottleneck = any(re.match(rf'{BODY}res2\.\d+\.conv3\.', name) for name in part)
    depth = DEPTHS.get((blocks, is_bottleneck))
    if depth is None:
        known = ', '.join(f'{depth}' for depth in DEPTHS.values())
        kind = 'bottleneck' if is_bottleneck else 'basic'
        raise ConversionError(
            f'{BODY}res2 to res5 have {blocks} {kind} blocks, expected a ResNet-{known} or a '
            'MobileNetV2'
        )
    width = _size(part, f'{BODY}stem.conv1.weight', 0, 64)
    channels = [width * 2**i * (4 if is_bottleneck else 1) for i in range(4)]
    config = {'depth': depth, 'style': 'caffe'}
    if width != 64:
        config['base_channels'] = width
    if is_bottleneck:
        pixels = {**MSRA_PIXELS, 'bgr_to_rgb': False}
        hint = "style='caffe' and the pixels are those of Detectron2's MSRA ResNets"
    elif is_detector:
        pixels = {**AUTHORS_R18_PIXELS, 'bgr_to_rgb': True}
        hint = "the pixels are those of the authors' R18 students: RGB, mean and std in BGR order"
    else:
        pixels = {**TORCHVISION_PIXELS, 'bgr_to_rgb': True}
        hint = "the pixels are those of torchvision's ImageNet weights"
    return Backbone(f'ResNet-{depth}', config, channels, pixels, hint)


def model_settings(arch: str, part: Mapping[str, Any], backbone: Backbone) -> dict[str, Any]:
    """Return in what a detector differs from MMDetection's stock one, as a config.

    Args:
        arch (str): A key of ``ARCHS``.
        part (Mapping[str, Any]): Tensors by Detectron2's names. Widths and classes are theirs.
        backbone (Backbone): Its backbone.
    """
    width = _size(part, 'backbone.fpn_output5.weight', 0, 256)
    neck = {'in_channels': backbone.channels, 'out_channels': width}
    settings = {
        'data_preprocessor': backbone.pixels,
        'backbone': {**backbone.config, 'init_cfg': None},
        'neck': neck,
    }
    if arch == 'retinanet':
        # Detectron2 makes P7 of the rectified P6.
        neck['relu_before_extra_convs'] = True
        classes = _size(part, 'head.cls_score.weight', 0, 720) // 9
        head = {'num_classes': classes, 'in_channels': width, 'feat_channels': width}
        return {**settings, 'bbox_head': head}
    classes = _size(part, 'roi_heads.box_predictor.cls_score.weight', 0, 81) - 1
    hidden = _size(part, 'roi_heads.box_head.fc1.weight', 0, 1024)
    extractor = {'out_channels': width}
    box_head = {'in_channels': width, 'fc_out_channels': hidden, 'num_classes': classes}
    roi_head = {'bbox_roi_extractor': extractor, 'bbox_head': box_head}
    if arch == 'mask-rcnn':
        hidden = _size(part, 'roi_heads.mask_head.mask_fcn1.weight', 0, 256)
        roi_head['mask_roi_extractor'] = extractor
        roi_head['mask_head'] = {
            'in_channels': width,
            'conv_out_channels': hidden,
            'num_classes': classes,
        }
    rpn_head = {'in_channels': width, 'feat_channels': width}
    return {**settings, 'rpn_head': rpn_head, 'roi_head': roi_head}


def _stock(arch: str) -> Config:
    return Config.fromfile(config_root('mmdet') / ARCHS[arch])


def build_detector(arch: str, settings: dict[str, Any]) -> BaseModel:
    """Build a detector whose tensors have names and shapes, but no memory.

    Args:
        arch (str): A key of ``ARCHS``.
        settings (dict[str, Any]): In what it differs from the stock one, see ``model_settings``.
    """
    cfg = _stock(arch)
    # The merge takes `_delete_` out of what it is given.
    cfg.merge_from_dict({'model': copy.deepcopy(settings)})
    with torch.device('meta'):
        return ModelSource(cfg.model, 'mmdet').build()


def config_text(arch: str, settings: Mapping[str, Any]) -> str:
    """Return the text of a config that inherits MMDetection's stock detector.

    Args:
        arch (str): A key of ``ARCHS``.
        settings (Mapping[str, Any]): In what it differs from it, see ``model_settings``.
    """
    model = _difference(settings, _stock(arch).model)
    text = Config({'model': model}).pretty_text.strip()
    return f"_base_ = 'mmdet::{ARCHS[arch]}'\n{text}"


def _difference(settings: Mapping[str, Any], stock: Mapping[str, Any]) -> dict[str, Any]:
    different = {}
    for key, value in settings.items():
        old = stock.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and '_delete_' not in value:
            value = _difference(value, old)
            if not value:
                continue
        elif value == old and key not in STATED:
            continue
        different[key] = value
    return different


def _mobilenet_v2() -> Backbone:
    # The authors' MobileNetV2 taps the last blocks of strides 4, 8, 16 and 32.
    config = {'_delete_': True, 'type': 'MobileNetV2', 'out_indices': (1, 2, 4, 6)}
    config |= {'norm_cfg': {'type': 'BN', 'requires_grad': False}, 'norm_eval': True}
    pixels = {**MSRA_PIXELS, 'bgr_to_rgb': False}
    hint = "the pixels are Detectron2's defaults, which the authors' MobileNetV2 students have"
    return Backbone('MobileNetV2', config, [24, 32, 96, 320], pixels, hint)


def _size(part: Mapping[str, Any], name: str, axis: int, default: int) -> int:
    tensor = part.get(name)
    # Without a usable one any number will do: the missing or misshapen tensor is reported.
    return tensor.shape[axis] if isinstance(tensor, Tensor) and tensor.ndim > axis else default
