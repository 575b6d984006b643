"""MobileNetV1 on ImageNet without distillation: 4.23 M parameters.

The schedule of the paper. Published top-1: 68.87 %.
"""

_base_ = ['../_base_/models/mobilenet_v1.py', '../_base_/schedules/imagenet_100e.py']
