"""ResNet-18 on ImageNet without distillation: 11.69 M parameters.

The schedule of the paper. Published top-1: 69.75 %.
"""

_base_ = ['mmpretrain::_base_/models/resnet18.py', '../_base_/schedules/imagenet_100e.py']
