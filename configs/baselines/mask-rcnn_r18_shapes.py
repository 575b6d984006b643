"""The teacher on generated shapes: Mask R-CNN R18, 4 epochs over the training images twice.

It reproduces no published number.
"""

_base_ = [
    '../_base_/models/mask-rcnn_r18_tiny.py',
    '../_base_/datasets/shapes.py',
    '../_base_/schedules/shapes.py',
    '../_base_/detection_runtime.py',
]
images = _base_.train_dataloader.dataset
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset=images))
