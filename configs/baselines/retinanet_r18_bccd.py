"""RetinaNet R18 on BCCD from scratch, 12 epochs at 320x240, which two CPU cores can train."""

_base_ = [
    '../_base_/models/retinanet_r18_small.py',
    '../_base_/datasets/bccd.py',
    '../_base_/schedules/small_detection.py',
    '../_base_/detection_runtime.py',
]
