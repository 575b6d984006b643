"""A thin Mask R-CNN R18 on generated shapes, 4 epochs: the student of the demo.

It reproduces no published number.
"""

_base_ = [
    '../_base_/models/mask-rcnn_r18_thin.py',
    '../_base_/datasets/shapes.py',
    '../_base_/schedules/shapes.py',
    '../_base_/detection_runtime.py',
]
