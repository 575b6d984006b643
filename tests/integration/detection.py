"""A shrunken RetinaNet, Faster R-CNN and Mask R-CNN, and a batch for them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData

from reviewkd_mm.config.files import config_root

NUM_CLASSES = 3
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)


def _pixels(**kwargs: Any) -> dict:
    return dict(type='DetDataPreprocessor', pad_size_divisor=32, **kwargs)


def _backbone(width: int) -> dict:
    return dict(type='ResNet', depth=18, base_channels=width, norm_eval=False, init_cfg=None)


def _stages(width: int) -> list[int]:
    return [width, 2 * width, 4 * width, 8 * width]


def retinanet(width: int = 4, channels: int = 8, **kwargs: Any) -> dict:
    """Config of a RetinaNet with a thin ResNet-18; keyword arguments replace its keys."""
    cfg = dict(
        type='mmdet.RetinaNet',
        data_preprocessor=_pixels(**IMAGENET),
        backbone=_backbone(width),
        neck=dict(
            type='FPN',
            in_channels=_stages(width),
            out_channels=channels,
            start_level=1,
            add_extra_convs='on_input',
            num_outs=5,
        ),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=NUM_CLASSES,
            in_channels=channels,
            stacked_convs=1,
            feat_channels=8,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=1,
                ratios=[1.0],
                strides=[8, 16, 32, 64, 128],
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='L1Loss'),
        ),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=dict(
            nms_pre=100,
            min_bbox_size=0,
            score_thr=0.0,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=10,
        ),
    )
    cfg.update(kwargs)
    return copy.deepcopy(cfg)


def faster_rcnn(width: int = 4, channels: int = 8) -> dict:
    """Config of a Faster R-CNN, as far as features and RPN go, with a thin ResNet-18."""
    rpn = retinanet()['bbox_head']
    for key in ('num_classes', 'stacked_convs'):
        del rpn[key]
    rpn.update(type='RPNHead', in_channels=channels, loss_cls=dict(type='CrossEntropyLoss'))
    rpn['anchor_generator'] = dict(
        type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8, 16, 32, 64]
    )
    return dict(
        type='mmdet.FasterRCNN',
        data_preprocessor=_pixels(**IMAGENET),
        backbone=_backbone(width),
        neck=dict(type='FPN', in_channels=_stages(width), out_channels=channels, num_outs=5),
        rpn_head=rpn,
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
                out_channels=channels,
                featmap_strides=[4, 8, 16, 32],
            ),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=channels,
                fc_out_channels=16,
                num_classes=NUM_CLASSES,
            ),
        ),
        train_cfg=dict(rpn=None, rpn_proposal=None, rcnn=None),
        test_cfg=dict(
            rpn=dict(nms_pre=10, max_per_img=10, nms=dict(type='nms', iou_threshold=0.7)),
            rcnn=dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10),
        ),
    )


def mask_rcnn(width: int = 4, channels: int = 8, num_classes: int = NUM_CLASSES) -> dict:
    """Config of MMDetection's Mask R-CNN with a thin ResNet-18 and thin heads."""
    cfg = Config.fromfile(
        config_root('mmdet') / '_base_' / 'models' / 'mask-rcnn_r50_fpn.py'
    ).model
    cfg.type = 'mmdet.MaskRCNN'
    cfg.backbone = _backbone(width)
    cfg.neck.update(in_channels=_stages(width), out_channels=channels)
    cfg.rpn_head.update(in_channels=channels, feat_channels=channels)
    heads = cfg.roi_head
    heads.bbox_roi_extractor.out_channels = channels
    heads.bbox_head.update(in_channels=channels, fc_out_channels=16, num_classes=num_classes)
    heads.mask_roi_extractor.out_channels = channels
    heads.mask_head.update(
        in_channels=channels, conv_out_channels=channels, num_convs=1, num_classes=num_classes
    )
    cfg.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
    cfg.train_cfg.rcnn.sampler.num = 16
    return cfg.to_dict()


def raw_batch(sizes: tuple[tuple[int, int], ...] = ((64, 64), (48, 40))) -> dict:
    """Draw uint8 images of given sizes with two boxes each, as a dataloader gives them."""
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for index, (height, width) in enumerate(sizes):
        shape = (3, height, width)
        images.append(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))
        meta = dict(img_shape=(height, width), ori_shape=(height, width), img_id=index)
        sample = DetDataSample(metainfo=dict(meta, scale_factor=(1.0, 1.0)))
        boxes = torch.tensor([[2.0, 3.0, 30.0, 28.0], [8.0, 10.0, 36.0, 40.0]])
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=torch.tensor([0, 2]), masks=_filled(boxes, height, width)
        )
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def _filled(boxes: torch.Tensor, height: int, width: int) -> BitmapMasks:
    """Masks that fill their boxes."""
    masks = np.zeros((len(boxes), height, width), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return BitmapMasks(masks, height, width)
