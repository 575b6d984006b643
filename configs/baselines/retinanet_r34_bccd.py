"""The teacher on BCCD: RetinaNet R34, 12 epochs over the training images three times."""

_base_ = './retinanet_r18_bccd.py'
model = dict(backbone=dict(depth=34))
images = _base_.train_dataloader.dataset
train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=3, dataset=images))
