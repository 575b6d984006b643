"""ResNet for 32x32 images, and what it shares with Wide ResNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.backbones.staged_backbone import KAIMING_INIT, StagedBackbone
from reviewkd_mm.registry import MODELS

NUM_STAGES = 3
STRIDES = (1, 2, 2)


def blocks_per_stage(depth: int, offset: int) -> int:
    """Return n for a network of depth ``6n + offset``.

    Args:
        depth (int): Depth of the network.
        offset (int): Layers outside the three stages.

    Returns:
        int: Number of residual blocks in a stage.

    Raises:
        ValueError: If there is no such n >= 1.
    """
    expected = f'expected 6n+{offset} with n >= 1'
    if not isinstance(depth, int):
        raise ConfigError(f'depth={depth!r}: {expected}, an int')
    blocks, rest = divmod(depth - offset, 6)
    if blocks < 1:
        raise ConfigError(f'depth={depth}: {expected}, the nearest is {6 + offset}')
    if rest:
        nearest = sorted((depth - rest, depth - rest + 6), key=lambda valid: abs(valid - depth))
        raise ConfigError(f'depth={depth}: {expected}, the nearest are {nearest[0]}, {nearest[1]}')
    return blocks


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps the size at stride 1, without bias."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, a ReLU after the sum.

    ``relu1`` follows the first BN and ``relu`` the sum, so that the input of ``relu`` is the
    output of the block before its last ReLU. Both work in place, as those of MMPretrain's ResNet:
    a tap copies what it reads before that, a hook of one's own has to.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution. Defaults to 1.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return self.relu(out)


@MODELS.register_module()
class CIFARResNet(StagedBackbone):
    """ResNet of depth 6n+2 for 32x32 images, with a convolution where the shape changes.

    From "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.2. Parameters
    have the names that RepDistiller's checkpoints use.

    ================================  ==========================================
    feature                           tap
    ================================  ==========================================
    output of stage k, after ReLU     output of ``layer{k}``
    the same before its last ReLU     input of ``layer{k}.-1.relu``
    ================================  ==========================================

    Args:
        depth (int): Depth, 6n+2: 8, 14, 20, 32, 44, 56, 110 ...
        base_channels (Sequence[int]): Channels of the stem and of the three stages. The x4
            networks have (32, 64, 128, 256). Defaults to (16, 16, 32, 64).
        out_indices (Sequence[int]): Stages that are returned, from 0, 1, 2. Defaults to (2,).
        frozen_stages (int): Frozen stages: 0 is the stem, k the stem and the first k stages.
            Defaults to -1, none.
        norm_eval (bool): Whether every BN keeps its running statistics in training.
            Defaults to False.
        init_cfg (dict | list[dict], optional): Initialisation. Defaults to normal weights with
            the variance of Kaiming initialisation (fan-out) and identity BN.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = CIFARResNet(depth=20)
        >>> [tuple(x.shape) for x in model(torch.rand(2, 3, 32, 32))]
        [(2, 64, 8, 8)]
    """

    stage_names = ('layer1', 'layer2', 'layer3')

    def __init__(
        self,
        depth: int,
        base_channels: Sequence[int] = (16, 16, 32, 64),
        out_indices: Sequence[int] = (2,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = KAIMING_INIT,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        blocks = blocks_per_stage(depth, offset=2)
        _check_channels(base_channels)
        self.depth = depth
        self.conv1 = conv3x3(3, base_channels[0])
        self.bn1 = nn.BatchNorm2d(base_channels[0])
        self.relu = nn.ReLU(inplace=True)
        for index, name in enumerate(self.stage_names):
            stage = _make_stage(*base_channels[index : index + 2], STRIDES[index], blocks)
            self.add_module(name, stage)
        self.freeze_stages()

    def stem(self, x: Tensor) -> Tensor:
        """Map the images to the input of the first stage."""
        return self.relu(self.bn1(self.conv1(x)))


def _check_channels(base_channels: Sequence[int]) -> None:
    valid = isinstance(base_channels, Sequence) and len(base_channels) == NUM_STAGES + 1
    if not valid or any(not isinstance(c, int) or c < 1 for c in base_channels):
        raise ConfigError(
            f'base_channels={base_channels!r}: expected {NUM_STAGES + 1} positive ints, the '
            f'stem and {NUM_STAGES} stages, such as (16, 16, 32, 64)'
        )


def _make_stage(in_channels: int, out_channels: int, stride: int, blocks: int) -> nn.Sequential:
    rest = [BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)
