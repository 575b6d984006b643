"""Nuclei of the 2018 Data Science Bowl, instance masks, 250 + 84 images of 256x256, COCO format.

Broad Bioimage Benchmark Collection, accession BBBC038, CC0.
"""

_base_ = 'mmdet::_base_/datasets/coco_instance.py'
coco_data = dict(
    classes=('nucleus',),
    data_root='data/nuclei/',
    train=dict(ann_file='annotations/instances_train.json', data_prefix=dict(img='images/')),
    val=dict(ann_file='annotations/instances_val.json', data_prefix=dict(img='images/')),
)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (256, 256)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (256, 256)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=4, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
