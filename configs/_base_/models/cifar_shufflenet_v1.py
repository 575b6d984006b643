"""A CIFAR ShuffleNetV1 classifier for 100 classes."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='reviewkd_mm.CIFARShuffleNetV1'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=960,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=None,  # PyTorch's own initialisation, as the authors have it.
    ),
)
