"""A head that cannot take the channels of backbone and neck is refused, and no other."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from reviewkd_mm.models.distillers.head_channels import check_head_channels
from reviewkd_mm.registry import MODELS
from tests.integration.detection import faster_rcnn, retinanet
from tests.models.distillers.helpers import classifier

SEGMENTER = dict(
    type='mmseg.EncoderDecoder',
    backbone=dict(
        type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, norm_cfg=dict(type='BN')
    ),
    decode_head=dict(
        type='FCNHead', in_channels=32, in_index=3, channels=4, num_convs=1, num_classes=3
    ),
    auxiliary_head=[
        dict(type='FCNHead', in_channels=16, in_index=2, channels=4, num_convs=1, num_classes=3)
    ],
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
ALL_STAGES = dict(in_channels=[4, 8, 16, 32], in_index=[0, 1, 2, 3], channels=4, num_classes=3)
VIT = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=12, num_layers=1, num_heads=1, feedforward_channels=8),
        img_size=224,
        patch_size=56,
    ),
    head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=12),
)
JOINED = dict(ALL_STAGES, type='FCNHead', input_transform='resize_concat', num_convs=1)
SELECTED = dict(ALL_STAGES, type='SegformerHead')


def changed(cfg: dict, **changes: object) -> dict:
    """Return a copy of a config with some keys set, their dots written as ``__``."""
    cfg = copy.deepcopy(cfg)
    for key, value in changes.items():
        *parents, last = key.split('__')
        node = cfg
        for name in parents:
            node = node[int(name) if isinstance(node, list) else name]
        node[last] = value
    return cfg


def build(cfg: dict) -> nn.Module:
    with DefaultScope.overwrite_default_scope(cfg['type'].partition('.')[0]):
        return MODELS.build(ConfigDict(copy.deepcopy(cfg)))


class Toy(nn.Module):
    """A model of one convolution, whose features and head are given."""

    def __init__(self, features: object, head: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.features = features
        self.bbox_head = head

    def extract_feat(self, inputs: Tensor) -> object:
        return self.features(self.conv(inputs))


class Needy(nn.Module):
    """A head that cannot run on features alone."""

    def __init__(self, in_channels: object) -> None:
        super().__init__()
        self.in_channels = in_channels

    def forward(self, features: object, queries: Tensor) -> None: ...


class Last(nn.Conv2d):
    """A head of the last level alone."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return super().forward(features[-1])


def levels(feature: Tensor) -> list[Tensor]:
    return [feature, torch.cat([feature, feature], dim=1)]


@pytest.mark.parametrize(
    'cfg',
    [
        classifier(),
        VIT,
        retinanet(),
        faster_rcnn(),
        SEGMENTER,
        changed(SEGMENTER, decode_head=JOINED),
        changed(SEGMENTER, decode_head=SELECTED),
    ],
    ids=['classifier', 'cls token', 'RetinaNet', 'Faster R-CNN', 'FCN', 'joined', 'selected'],
)
def test_a_good_model_passes_and_is_left_as_it_was(cfg):
    model = build(cfg)

    check_head_channels(model, 'student')

    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ('features', 'head'),
    [
        (levels, Last(8, 1, 1)),
        (levels, Needy(8)),
        (levels, Needy([4, 8])),
        (levels, Needy([4, 8, 16])),
        (levels, Needy(None)),
        (levels, nn.Identity()),
        (lambda feature: feature, Needy(4)),
        (lambda feature: feature.flatten(2), Needy(5)),
        (lambda feature: feature.flatten(1), Needy(4 * 30 * 30)),
        (lambda feature: dict(feature=feature), Needy(5)),
    ],
)
def test_what_cannot_be_told_passes(features, head):
    check_head_channels(Toy(features, head), 'student')


def test_a_model_that_takes_no_dummy_image_passes():
    check_head_channels(Toy(lambda feature: feature.view(5, 5), Needy(5)), 'student')
    check_head_channels(nn.Linear(1, 1), 'student')


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (changed(classifier(), head__in_channels=99), r'head\.in_channels=99: .* give, 16$'),
        (changed(VIT, head__in_channels=5), r'head\.in_channels=5: expected .* give, 12$'),
        (
            changed(retinanet(), bbox_head__in_channels=5),
            r'bbox_head\.in_channels=5: .* give, 8, 8, 8, 8, 8$',
        ),
        (changed(faster_rcnn(), rpn_head__in_channels=5), r'rpn_head\.in_channels=5: .* 8, 8, 8'),
        (changed(SEGMENTER, decode_head__in_channels=7), r'decode_head\.in_channels=7: .* 32$'),
        (
            changed(SEGMENTER, auxiliary_head__0__in_channels=7),
            r'auxiliary_head\.0\.in_channels=7: .* give, 16$',
        ),
        (
            changed(SEGMENTER, decode_head=dict(JOINED, in_channels=[4, 8, 16, 31])),
            r'decode_head\.in_channels=59: .* give, 4, 8, 16, 32$',
        ),
        (
            changed(SEGMENTER, decode_head=dict(SELECTED, in_channels=[4, 8, 9, 32])),
            r'decode_head\.in_channels=\(4, 8, 9, 32\): .* give, 4, 8, 16, 32$',
        ),
    ],
)
def test_a_head_that_cannot_take_the_features_is_refused(cfg, message):
    with pytest.raises(ValueError, match=rf'^student\.{message}'):
        check_head_channels(build(cfg), 'student')


def test_a_head_that_needs_more_than_features_is_refused_by_their_channels():
    with pytest.raises(ValueError, match=r'^teacher\.bbox_head\.in_channels=5: .* give, 4, 8$'):
        check_head_channels(Toy(levels, Needy(5)), 'teacher')
