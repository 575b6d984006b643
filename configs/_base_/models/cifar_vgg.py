"""A CIFAR VGG classifier for 100 classes; the depth is the config's to set."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='reviewkd_mm.CIFARVGG', depth=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01),  # RepDistiller's.
    ),
)
