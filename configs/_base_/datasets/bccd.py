"""BCCD, blood cells in boxes, 292 + 72 images in COCO format, read at 320x240.

github.com/Shenggan/BCCD_Dataset, MIT licence.
"""

_base_ = 'mmdet::_base_/datasets/coco_detection.py'
coco_data = dict(
    classes=('RBC', 'WBC', 'Platelets'),
    data_root='data/bccd/',
    train=dict(ann_file='annotations/instances_train.json', data_prefix=dict(img='images/')),
    val=dict(ann_file='annotations/instances_val.json', data_prefix=dict(img='images/')),
)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (320, 240)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (320, 240)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=4, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
