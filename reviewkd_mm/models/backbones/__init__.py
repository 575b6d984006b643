"""Backbones for MMPretrain: the CIFAR networks of the paper, and MobileNetV1 for ImageNet."""

from reviewkd_mm.models.backbones.cifar_mobilenet_v2 import CIFARMobileNetV2
from reviewkd_mm.models.backbones.cifar_resnet import CIFARResNet
from reviewkd_mm.models.backbones.cifar_shufflenet_v1 import CIFARShuffleNetV1
from reviewkd_mm.models.backbones.cifar_shufflenet_v2 import CIFARShuffleNetV2
from reviewkd_mm.models.backbones.cifar_vgg import CIFARVGG
from reviewkd_mm.models.backbones.cifar_wide_resnet import CIFARWideResNet
from reviewkd_mm.models.backbones.mobilenet_v1 import MobileNetV1

__all__ = [
    'CIFARVGG',
    'CIFARMobileNetV2',
    'CIFARResNet',
    'CIFARShuffleNetV1',
    'CIFARShuffleNetV2',
    'CIFARWideResNet',
    'MobileNetV1',
]
