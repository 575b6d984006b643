"""Mask R-CNN R50 on COCO, the student alone on the paper's schedule, from ImageNet weights.

Detectron2's 1x schedule as MMDetection has it: 90,000 iterations of 16 images, shorter sides of
640 to 800 pixels. BatchNorm is frozen, its scale and shift included, as in Detectron2.
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::common/ms-poly-90k_coco-instance.py',
    '../_base_/hooks.py',
]
default_hooks = _base_.training_hooks
model = dict(backbone=dict(norm_cfg=dict(requires_grad=False)))
