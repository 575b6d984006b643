"""Mask R-CNN R18 on nuclei from scratch, 12 epochs at 256x256, which two CPU cores can train."""

_base_ = [
    '../_base_/models/mask-rcnn_r18_small.py',
    '../_base_/datasets/nuclei.py',
    '../_base_/schedules/small_detection.py',
    '../_base_/detection_runtime.py',
]
# Half of the nuclei are less than 12 pixels wide.
model = dict(rpn_head=dict(anchor_generator=dict(scales=[2])))
