"""Wide ResNet for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.backbones.cifar_resnet import STRIDES, blocks_per_stage, conv3x3
from reviewkd_mm.models.backbones.staged_backbone import KAIMING_INIT, StagedBackbone
from reviewkd_mm.registry import MODELS


class PreActBlock(nn.Module):
    """BN, ReLU and 3x3 convolution, twice, and a shortcut.

    Where the channels change, the shortcut is a 1x1 convolution of the input after ``bn1`` and
    ``relu1``; elsewhere it is the input. Only ``relu2`` works in place: the output of ``bn1`` is
    tapped and stays as it is.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution.
        drop_rate (float): Dropout probability before the second convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, drop_rate: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(drop_rate)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.convShortcut: nn.Module | None = None
        if in_channels != out_channels:
            self.convShortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        out = self.relu1(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(out)
        out = self.relu2(self.bn2(self.conv1(out)))
        out = self.conv2(self.dropout(out))
        out += shortcut
        return out


class PreActStage(nn.Module):
    """A row of blocks, of which the first changes channels and size.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of every block's output.
        stride (int): Stride of the first block.
        blocks (int): Number of blocks.
        drop_rate (float): Dropout probability in each block.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, blocks: int, drop_rate: float
    ) -> None:
        super().__init__()
        rest = [PreActBlock(out_channels, out_channels, 1, drop_rate) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(
            PreActBlock(in_channels, out_channels, stride, drop_rate), *rest
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return self.layer(x)


@MODELS.register_module()
class CIFARWideResNet(StagedBackbone):
    """Wide ResNet WRN-depth-widen_factor for 32x32 images.

    From "Wide Residual Networks" (BMVC 2016). Parameters have the names that RepDistiller's
    checkpoints use. The last output has passed the final BN and ReLU.

    =======================================  ===============================================
    feature                                  tap
    =======================================  ===============================================
    raw output of stage k                    output of ``block{k}``
    the same after the next BN, before ReLU  output of ``block2.layer.0.bn1``,
                                             ``block3.layer.0.bn1``, ``bn1``
    =======================================  ===============================================

    Args:
        depth (int): Depth, 6n+4: 10, 16, 22, 28, 40 ...
        widen_factor (int): Factor on the 16, 32, 64 channels of the stages.
        drop_rate (float): Dropout probability in each block. Defaults to 0.
        out_indices (Sequence[int]): Stages that are returned, from 0, 1, 2. Defaults to (2,).
        frozen_stages (int): Frozen stages: 0 is the stem, k the stem and the first k stages, 3
            the final BN too. Defaults to -1, none.
        norm_eval (bool): Whether every BN keeps its running statistics in training.
            Defaults to False.
        init_cfg (dict | list[dict], optional): Initialisation. Defaults to normal weights with
            the variance of Kaiming initialisation (fan-out) and identity BN.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = CIFARWideResNet(depth=16, widen_factor=2)
        >>> [tuple(x.shape) for x in model(torch.rand(2, 3, 32, 32))]
        [(2, 128, 8, 8)]
    """

    stage_names = ('block1', 'block2', 'block3')
    stem_names = ('conv1',)
    tail_names = ('bn1',)

    def __init__(
        self,
        depth: int,
        widen_factor: int,
        drop_rate: float = 0.0,
        out_indices: Sequence[int] = (2,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = KAIMING_INIT,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        blocks = blocks_per_stage(depth, offset=4)
        if not isinstance(widen_factor, int) or widen_factor < 1:
            raise ConfigError(f'widen_factor={widen_factor!r}: expected an int >= 1')
        if not 0 <= drop_rate < 1:
            raise ConfigError(f'drop_rate={drop_rate!r}: expected a number in [0, 1)')
        self.depth = depth
        self.widen_factor = widen_factor
        channels = (16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor)
        self.conv1 = conv3x3(3, channels[0])
        for index, name in enumerate(self.stage_names):
            stage = PreActStage(*channels[index : index + 2], STRIDES[index], blocks, drop_rate)
            self.add_module(name, stage)
        self.bn1 = nn.BatchNorm2d(channels[-1])
        self.relu = nn.ReLU()
        self.freeze_stages()

    def stem(self, x: Tensor) -> Tensor:
        """Map the images to the input of the first stage."""
        return self.conv1(x)

    def tail(self, x: Tensor) -> Tensor:
        """Apply the final BN and ReLU."""
        return self.relu(self.bn1(x))
