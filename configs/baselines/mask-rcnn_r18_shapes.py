"""Mask R-CNN R18 on generated shapes: the teacher of the demo's second part.

It reproduces no published number.
"""

_base_ = [
    '../_base_/models/mask-rcnn_r18_tiny.py',
    '../_base_/datasets/shapes.py',
    '../_base_/schedules/shapes.py',
    'mmdet::_base_/default_runtime.py',
]
