"""The teacher on nuclei: Mask R-CNN R34, 12 epochs over the training images twice."""

_base_ = './mask-rcnn_r18_nuclei.py'
model = dict(backbone=dict(depth=34))
images = _base_.train_dataloader.dataset
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2, dataset=images))
