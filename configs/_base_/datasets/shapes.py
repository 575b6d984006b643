"""Generated circles, rectangles and triangles with masks, 400 + 100 images of 96x96, COCO format.

python tools/dataset_converters/make_shapes.py data/shapes
"""

_base_ = 'mmdet::_base_/datasets/coco_instance.py'
coco_data = dict(
    classes=('circle', 'rectangle', 'triangle'),
    data_root='data/shapes/',
    train=dict(ann_file='annotations/instances_train.json', data_prefix=dict(img='train/')),
    val=dict(ann_file='annotations/instances_val.json', data_prefix=dict(img='val/')),
)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = (96, 96)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (96, 96)
# Such images are read faster than a worker can hand them over.
no_workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline), **no_workers)
val_dataloader = dict(batch_size=20, dataset=dict(pipeline=test_pipeline), **no_workers)
test_dataloader = val_dataloader
