"""Data sets."""

from reviewkd_mm.datasets.cifar import CIFAR100
from reviewkd_mm.datasets.digits import Digits

__all__ = ['CIFAR100', 'Digits']
