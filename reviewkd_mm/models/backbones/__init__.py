"""Backbones for MMPretrain: the CIFAR networks of the paper."""

from reviewkd_mm.models.backbones.cifar_resnet import CIFARResNet
from reviewkd_mm.models.backbones.cifar_wide_resnet import CIFARWideResNet

__all__ = ['CIFARResNet', 'CIFARWideResNet']
