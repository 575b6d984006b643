"""Mask R-CNN MobileNetV2 on COCO, the student alone on the paper's schedule.

It starts from MMPretrain's ImageNet weights, whose mean and std are those of the ResNets. As in
the authors' configs, no stage is frozen and the neck reads 24, 32, 96 and 320 channels.
"""

_base_ = ['./mask-rcnn_r50_coco.py', '../_base_/models/mobilenet_v2.py']
backbone = dict(_base_.mobilenet_v2, _delete_=True)
model = dict(backbone=backbone, neck=dict(in_channels=[24, 32, 96, 320]))
# The last convolution of MMDetection's MobileNetV2 leads into no level of the neck.
find_unused_parameters = True
