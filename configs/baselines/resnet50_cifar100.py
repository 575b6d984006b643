"""ResNet-50 on CIFAR-100 without distillation: 23.71 M parameters.

The 240-epoch schedule of the ReviewKD authors. The teacher of MobileNetV2; no published result of
its own is known here.
"""

_base_ = [
    '../_base_/models/cifar_resnet50.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar100_240e.py',
    '../_base_/default_runtime.py',
]
