"""A CIFAR MobileNetV2 classifier of half the width for 100 classes."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='reviewkd_mm.CIFARMobileNetV2', widen_factor=0.5),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=1280,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01),  # RepDistiller's.
    ),
)
