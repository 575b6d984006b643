"""Data sets."""

from reviewkd_mm.datasets.cifar import CIFAR100
from reviewkd_mm.datasets.digits import Digits
from reviewkd_mm.datasets.shapes import write_shapes

__all__ = ['CIFAR100', 'Digits', 'write_shapes']
