"""A CIFAR ResNet-50 classifier for 100 classes: a stem of one 3x3 convolution, no max-pooling."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=50, zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss'),
        init_cfg=None,  # PyTorch's own initialisation, as the authors have it.
    ),
)
