"""VGG-8 on CIFAR-100 without distillation: 3.97 M parameters.

The 240-epoch schedule of the ReviewKD authors. Published top-1 of the common protocol (batch 64,
learning rate 0.05), as LSKD (CVPR 2024) reprints it: 70.36 %.
"""

_base_ = [
    '../_base_/models/cifar_vgg.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar100_240e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(depth=8))
