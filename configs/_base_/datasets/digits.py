"""Scikit-learn's handwritten digits among clutter and noise, 20x20 pixels: real data that needs no
download. 100 digits of each class to learn from, 723 to test on.
"""

data_preprocessor = dict(num_classes=10, mean=[100.0] * 3, std=[70.0] * 3, to_rgb=False)
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='reviewkd_mm.Digits',
        split='train',
        image_size=20,
        clutter=1,
        noise=20,
        num_train=100,
        pipeline=[
            dict(type='RandomCrop', crop_size=20, padding=2),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='reviewkd_mm.Digits',
        split='test',
        image_size=20,
        clutter=1,
        noise=20,
        pipeline=[dict(type='PackInputs')],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
