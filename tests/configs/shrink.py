"""Make a model small: the same structure with fewer layers and an eighth of the channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from reviewkd_mm.config import is_distiller
from reviewkd_mm.models.distillers.model_source import read_source

FACTOR = 8
CHANNELS = {
    'base_channels',
    'channels',
    'conv_out_channels',
    'embed_dims',
    'fc_out_channels',
    'feat_channels',
    'feedforward_channels',
    'in_channels',
    'inner_channels',
    'max_per_img',
    'nms_pre',
    'num',
    'num_dn_queries',
    'num_feats',
    'num_groups',
    'num_queries',
    'out_channels',
    'stem_channels',
}
# What the zoo's configs leave to the class.
DEFAULTS = {
    'DINOHead': dict(embed_dims=256),
    'MobileNetV1': dict(widen_factor=1.0),
    'ResNet': dict(base_channels=64),
    'ResNetV1c': dict(base_channels=64, stem_channels=64),
    'ResNet_CIFAR': dict(base_channels=64),
}
# Backbones that keep their channels: few, not to be set, or rounded.
FIXED = {
    'CIFARMobileNetV2',
    'CIFARResNet',
    'CIFARShuffleNetV1',
    'CIFARShuffleNetV2',
    'CIFARVGG',
    'CIFARWideResNet',
    'MobileNetV2',
}
LAYERS = 2
DEPTHS = {34: 18, 101: 50}


def shrink_model(cfg: Config) -> None:
    """Make the model of a training config, or student and teacher, small and free of downloads.

    Args:
        cfg (Config): The config, changed in place; its teacher becomes an untrained one.
    """
    if not is_distiller(cfg.model):
        cfg.model = shrink(cfg.model)
        return
    cfg.model.teacher_ckpt = 'random'
    for role in ('student', 'teacher'):
        source = read_source(role, cfg.model[role])
        scope = {'_scope_': source.build_scope} if source.build_scope else {}
        cfg.model[role] = dict(shrink(source.cfg), **scope)


def shrink(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Divide the channels and the proposals of a model config by 8 and leave out layers.

    Nothing is to be downloaded for it.

    Args:
        cfg (Mapping): Config of a model or of a part of it.

    Returns:
        dict: A smaller copy.
    """
    cfg = {**DEFAULTS.get(_class_of(cfg), {}), **cfg}
    small = {key: _shrink(key, value) for key, value in cfg.items()}
    if _class_of(cfg.get('backbone', {})) in FIXED:
        small['backbone'] = _shorten(cfg['backbone'])
        reader = 'neck' if 'in_channels' in cfg['neck'] else 'head'
        small[reader]['in_channels'] = cfg[reader]['in_channels']
    return small


def _class_of(cfg: Mapping[str, Any]) -> str:
    return cfg.get('type', '').rpartition('.')[2]


def _shorten(backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Give a CIFAR network a single block in each of its three stages, a VGG the fewest layers."""
    backbone = {key: value for key, value in backbone.items() if key != 'init_cfg'}
    kind = _class_of(backbone)
    if kind == 'CIFARVGG':
        backbone['depth'] = 8
    if kind in ('CIFARResNet', 'CIFARWideResNet'):
        backbone['depth'] = 6 + backbone['depth'] % 6
    return backbone


def _shrink(key: str, value: Any) -> Any:
    if key in ('init_cfg', 'pretrained'):
        return None
    if key in ('deepen_factor', 'widen_factor'):
        return value / FACTOR
    if key == 'depth':
        return DEPTHS.get(value, value)
    if key in CHANNELS and value is not None:
        return _divide(value)
    if key in ('num_csp_blocks', 'num_layers'):
        return min(value, LAYERS)
    if key == 'depths':
        return [min(depth, LAYERS) for depth in value]
    if isinstance(value, Mapping):
        return shrink(value)
    if isinstance(value, (list, tuple)):
        return type(value)(shrink(v) if isinstance(v, Mapping) else v for v in value)
    return value


def _divide(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_divide(number) for number in value)
    return value // FACTOR
