"""A CIFAR Wide ResNet classifier for 100 classes; depth and width are the config's to set."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='reviewkd_mm.CIFARWideResNet', depth=16, widen_factor=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=None,  # PyTorch's own initialisation, as the authors have it.
    ),
)
