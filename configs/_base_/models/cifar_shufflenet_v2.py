"""A CIFAR ShuffleNetV2 classifier for 100 classes."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='reviewkd_mm.CIFARShuffleNetV2'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=1024,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=None,  # PyTorch's own initialisation, as the authors have it.
    ),
)
