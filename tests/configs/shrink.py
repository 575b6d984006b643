"""Make a model of the zoo small: the same structure with an eighth of the channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    'ResNet': dict(base_channels=64),
    'ResNetV1c': dict(base_channels=64, stem_channels=64),
}
LAYERS = 2


def shrink(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Divide the channels of a model config by 8 and shorten its transformers.

    Nothing is to be downloaded for it.

    Args:
        cfg (Mapping): Config of a model or of a part of it.

    Returns:
        dict: A smaller copy.
    """
    cfg = {**DEFAULTS.get(cfg.get('type'), {}), **cfg}
    return {key: _shrink(key, value) for key, value in cfg.items()}


def _shrink(key: str, value: Any) -> Any:
    if key in ('init_cfg', 'pretrained'):
        return None
    if key == 'widen_factor':
        return value / FACTOR
    if key in CHANNELS and value is not None:
        return [n // FACTOR for n in value] if isinstance(value, list) else value // FACTOR
    if key == 'num_layers':
        return min(value, LAYERS)
    if key == 'depths':
        return [min(depth, LAYERS) for depth in value]
    if isinstance(value, Mapping):
        return shrink(value)
    if isinstance(value, (list, tuple)):
        return type(value)(shrink(v) if isinstance(v, Mapping) else v for v in value)
    return value
