"""A narrow ResNet-8 on the digits that ship with scikit-learn: the student of the demo.

It reproduces no published number.
"""

_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(depth=8, base_channels=(8, 8, 16, 32)), head=dict(num_classes=10, in_channels=32)
)
