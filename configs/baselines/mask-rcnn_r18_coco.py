"""Mask R-CNN R18 on COCO, the student alone on the paper's schedule, from ImageNet weights."""

_base_ = './mask-rcnn_r50_coco.py'
model = dict(
    backbone=dict(depth=18, init_cfg=dict(checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
