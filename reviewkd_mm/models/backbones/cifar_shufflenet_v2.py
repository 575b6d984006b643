"""ShuffleNetV2 for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reviewkd_mm.models.backbones.layers import conv_norm
from reviewkd_mm.models.backbones.staged_backbone import StagedBackbone
from reviewkd_mm.registry import MODELS

STEM_CHANNELS = 24
LAST_CHANNELS = 1024
# Channels and number of blocks of each stage, the first of which halves the size.
STAGES = ((116, 4), (232, 8), (464, 4))


class DownBlock(nn.Module):
    """Two branches at half the size, whose channels are shuffled.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1, self.bn1 = conv_norm(in_channels, in_channels, 3, 2, groups=in_channels)
        self.conv2, self.bn2 = conv_norm(in_channels, half, 1)
        self.conv3, self.bn3 = conv_norm(in_channels, half, 1)
        self.relu3 = nn.ReLU()
        self.conv4, self.bn4 = conv_norm(half, half, 3, 2, groups=half)
        self.conv5, self.bn5 = conv_norm(half, half, 1)
        self.relu = nn.ReLU()
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / 2, W / 2)."""
        left = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        right = self.relu3(self.bn3(self.conv3(x)))
        right = self.bn5(self.conv5(self.bn4(self.conv4(right))))
        return self.shuffle(self.relu(torch.cat([left, right], 1)))


class SplitBlock(nn.Module):
    """A branch on the second half of the channels; then the halves are shuffled.

    ``relu`` works on both halves at once, though only the branch needs it: the untouched half
    comes from a ReLU already, and is the same after another. So the input of ``relu`` is the
    feature before the last ReLU that ReviewKD's code records, the halves not yet shuffled.

    Args:
        channels (int): Channels of the input and of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = conv_norm(half, half, 1)
        self.relu1 = nn.ReLU()
        self.conv2, self.bn2 = conv_norm(half, half, 3, groups=half)
        self.conv3, self.bn3 = conv_norm(half, half, 1)
        self.relu = nn.ReLU()
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map non-negative (N, channels, H, W) to the same shape."""
        untouched, branch = x.chunk(2, 1)
        branch = self.relu1(self.bn1(self.conv1(branch)))
        branch = self.bn3(self.conv3(self.bn2(self.conv2(branch))))
        return self.shuffle(self.relu(torch.cat([untouched, branch], 1)))


@MODELS.register_module()
class CIFARShuffleNetV2(StagedBackbone):
    """ShuffleNetV2 of size 1x for 32x32 images, with a stem that keeps the size.

    From "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design" (ECCV 2018).
    Parameters have the names that RepDistiller's checkpoints use. The last output has passed
    ``conv2``, its BN and ReLU: 1024 channels.

    ================================  ==========================================
    feature                           tap
    ================================  ==========================================
    output of stage k, after ReLU     output of ``layer{k}``
    before its last ReLU and shuffle  input of ``layer{k}.-1.relu``
    ================================  ==========================================

    Args:
        out_indices (Sequence[int]): Stages that are returned, from 0, 1, 2: 116, 232 and 1024
            channels at strides 2, 4 and 8. Defaults to (2,).
        frozen_stages (int): Frozen stages: 0 is the stem, k the stem and the first k stages, 3
            ``conv2`` and its BN too. Defaults to -1, none.
        norm_eval (bool): Whether every BN keeps its running statistics in training.
            Defaults to False.
        init_cfg (dict | list[dict], optional): Initialisation. Defaults to None, PyTorch's own.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = CIFARShuffleNetV2()
        >>> [tuple(x.shape) for x in model(torch.rand(2, 3, 32, 32))]
        [(2, 1024, 4, 4)]
    """

    stage_names = ('layer1', 'layer2', 'layer3')
    tail_names = ('conv2', 'bn2')

    def __init__(
        self,
        out_indices: Sequence[int] = (2,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        self.conv1, self.bn1 = conv_norm(3, STEM_CHANNELS, 1)
        self.relu1 = nn.ReLU()
        in_channels = STEM_CHANNELS
        for name, (out_channels, count) in zip(self.stage_names, STAGES, strict=True):
            rest = [SplitBlock(out_channels) for _ in range(count - 1)]
            self.add_module(name, nn.Sequential(DownBlock(in_channels, out_channels), *rest))
            in_channels = out_channels
        self.conv2, self.bn2 = conv_norm(in_channels, LAST_CHANNELS, 1)
        self.relu2 = nn.ReLU()
        self.freeze_stages()

    def stem(self, x: Tensor) -> Tensor:
        """Map the images to the input of the first stage."""
        return self.relu1(self.bn1(self.conv1(x)))

    def tail(self, x: Tensor) -> Tensor:
        """Apply the last 1x1 convolution, its BN and ReLU."""
        return self.relu2(self.bn2(self.conv2(x)))
