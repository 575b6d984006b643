"""ResNet-20 on CIFAR-100 without distillation, on the short schedule of 8 epochs.

For machines without a GPU, to compare with distillation on the same schedule. It reproduces no
published number.
"""

_base_ = [
    '../_base_/models/cifar_resnet.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar100_short.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(depth=20))
