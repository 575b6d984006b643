"""Layers and checks that the small networks share."""

from __future__ import annotations

import math

from torch import nn

from reviewkd_mm.errors import ConfigError


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution without bias that keeps the size at stride 1, and its BN.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int): Odd size of the kernel.
        stride (int): Stride of the convolution. Defaults to 1.
        groups (int): Groups of the convolution. Defaults to 1.

    Returns:
        list[nn.Module]: The two layers.
    """
    padding = kernel_size // 2
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False
    )
    return [conv, nn.BatchNorm2d(out_channels)]


def check_widen_factor(widen_factor: float, narrowest: int) -> None:
    """Refuse a factor that leaves a layer without channels.

    Args:
        widen_factor (float): Factor on the channels of every layer.
        narrowest (int): Channels of the narrowest layer at factor 1.

    Raises:
        ValueError: If it is no number, or too small.
    """
    valid = isinstance(widen_factor, (int, float)) and 1 <= narrowest * widen_factor < math.inf
    if not valid:
        raise ConfigError(
            f'widen_factor={widen_factor!r}: expected a number of {1 / narrowest} or more'
        )
