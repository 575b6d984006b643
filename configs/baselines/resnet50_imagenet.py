"""ResNet-50 on ImageNet without distillation: 25.56 M parameters.

A teacher of the paper: its checkpoint is torchvision's IMAGENET1K_V1 weights, converted by
tools/model_converters/torchvision_to_mmpretrain.py, 76.16 % top-1. MMPretrain's own checkpoint is
another model.
"""

_base_ = ['mmpretrain::_base_/models/resnet50.py', '../_base_/schedules/imagenet_100e.py']
