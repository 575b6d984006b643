"""A CIFAR ResNet classifier for 100 classes; the depth and the width are the config's to set."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='reviewkd_mm.CIFARResNet', depth=20),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=None,  # PyTorch's own initialisation, as the authors have it.
    ),
)
