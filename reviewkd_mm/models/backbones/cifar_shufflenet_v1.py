"""ShuffleNetV1 for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reviewkd_mm.models.backbones.layers import conv_norm
from reviewkd_mm.models.backbones.staged_backbone import StagedBackbone
from reviewkd_mm.registry import MODELS

GROUPS = 3
STEM_CHANNELS = 24
# Channels and number of blocks of each stage.
STAGES = ((240, 4), (480, 8), (960, 4))


class Bottleneck(nn.Module):
    """Grouped 1x1, depthwise 3x3 and grouped 1x1 convolutions, with the channels shuffled.

    A block of stride 1 adds its input. One of stride 2 has its input, average-pooled, as its last
    output channels. ``relu`` comes after the sum or the concatenation, so that its input is the
    output of the block before its last ReLU.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the depthwise convolution, 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        branch = out_channels if stride == 1 else out_channels - in_channels
        mid = branch // 4
        # The stem has too few channels for groups.
        groups = 1 if in_channels == STEM_CHANNELS else GROUPS
        self.conv1, self.bn1 = conv_norm(in_channels, mid, 1, groups=groups)
        self.relu1 = nn.ReLU()
        self.shuffle = nn.ChannelShuffle(groups)
        self.conv2, self.bn2 = conv_norm(mid, mid, 3, stride, groups=mid)
        self.relu2 = nn.ReLU()
        self.conv3, self.bn3 = conv_norm(mid, branch, 1, groups=GROUPS)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        out = self.shuffle(self.relu1(self.bn1(self.conv1(x))))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.pool is None:
            return self.relu(out + x)
        return self.relu(torch.cat([out, self.pool(x)], 1))


@MODELS.register_module()
class CIFARShuffleNetV1(StagedBackbone):
    """ShuffleNetV1 of 3 groups for 32x32 images, with a stem that keeps the size.

    From "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices"
    (CVPR 2018). Parameters have the names that RepDistiller's checkpoints use, and so has ReLU
    its place after the depthwise convolutions.

    ================================  ==========================================
    feature                           tap
    ================================  ==========================================
    output of stage k, after ReLU     output of ``layer{k}``
    the same before its last ReLU     input of ``layer{k}.-1.relu``
    ================================  ==========================================

    Args:
        out_indices (Sequence[int]): Stages that are returned, from 0, 1, 2: 240, 480 and 960
            channels at strides 2, 4 and 8. Defaults to (2,).
        frozen_stages (int): Frozen stages: 0 is the stem, k the stem and the first k stages.
            Defaults to -1, none.
        norm_eval (bool): Whether every BN keeps its running statistics in training.
            Defaults to False.
        init_cfg (dict | list[dict], optional): Initialisation. Defaults to None, PyTorch's own.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = CIFARShuffleNetV1()
        >>> [tuple(x.shape) for x in model(torch.rand(2, 3, 32, 32))]
        [(2, 960, 4, 4)]
    """

    stage_names = ('layer1', 'layer2', 'layer3')

    def __init__(
        self,
        out_indices: Sequence[int] = (2,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        self.conv1, self.bn1 = conv_norm(3, STEM_CHANNELS, 1)
        self.relu = nn.ReLU()
        in_channels = STEM_CHANNELS
        for name, (out_channels, count) in zip(self.stage_names, STAGES, strict=True):
            rest = [Bottleneck(out_channels, out_channels, 1) for _ in range(count - 1)]
            stage = nn.Sequential(Bottleneck(in_channels, out_channels, 2), *rest)
            self.add_module(name, stage)
            in_channels = out_channels
        self.freeze_stages()

    def stem(self, x: Tensor) -> Tensor:
        """Map the images to the input of the first stage."""
        return self.relu(self.bn1(self.conv1(x)))
