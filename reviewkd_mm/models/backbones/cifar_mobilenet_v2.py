"""MobileNetV2 for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.backbones.layers import check_widen_factor, conv_norm
from reviewkd_mm.models.backbones.staged_backbone import KAIMING_INIT, StagedBackbone
from reviewkd_mm.registry import MODELS

STEM_CHANNELS = 32
LAST_CHANNELS = 1280
# Channels, number of blocks and stride of the first one, for each stage.
STAGES = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


class InvertedResidual(nn.Module):
    """A 1x1 convolution that widens, a depthwise 3x3 one, and a 1x1 one that narrows.

    BN follows each, ReLU the first two, and the input is added where the shape stays the same.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the depthwise convolution.
        expansion (int): Factor on ``in_channels`` inside. The first convolution is there for a
            factor of 1 too.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.conv = nn.Sequential(
            *conv_norm(in_channels, wide, 1),
            nn.ReLU(),
            *conv_norm(wide, wide, 3, stride, groups=wide),
            nn.ReLU(),
            *conv_norm(wide, out_channels, 1),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        return self.conv(x) + x if self.has_shortcut else self.conv(x)


@MODELS.register_module()
class CIFARMobileNetV2(StagedBackbone):
    """MobileNetV2 for 32x32 images, which shrinks them by 16, with ReLU in place of ReLU6.

    From "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (CVPR 2018). Parameters have the
    names that RepDistiller's checkpoints use; the defaults are its ``mobile_half``. The last
    output has passed ``conv2``: 1280 channels, times ``widen_factor`` if that is above 1. The
    classifier starts in RepDistiller from normal weights of standard deviation 0.01 and zero bias:
    ``init_cfg=dict(type='Normal', layer='Linear', std=0.01)`` of the head.

    ========================================  ==========================================
    feature                                   tap
    ========================================  ==========================================
    last blocks at strides 2, 4, 8 and 16:    outputs of ``blocks.1``, ``blocks.2``,
    12, 16, 48 and 160 channels, no ReLU      ``blocks.4``, ``blocks.6``
    ========================================  ==========================================

    Args:
        widen_factor (float): Factor on the channels, rounded down. Defaults to 0.5.
        expansion (int): Factor on the channels inside the blocks, those of ``blocks.0`` aside.
            Defaults to 6.
        out_indices (Sequence[int]): Stages that are returned, from 0 (``blocks.0``) to 6
            (``blocks.6`` and ``conv2``). Defaults to (6,).
        frozen_stages (int): Frozen stages: 0 is the stem, k the stem and the first k stages, 7
            ``conv2`` too. Defaults to -1, none.
        norm_eval (bool): Whether every BN keeps its running statistics in training.
            Defaults to False.
        init_cfg (dict | list[dict], optional): Initialisation. Defaults to normal weights with
            the variance of Kaiming initialisation (fan-out) and identity BN.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = CIFARMobileNetV2()
        >>> [tuple(x.shape) for x in model(torch.rand(2, 3, 32, 32))]
        [(2, 1280, 2, 2)]
    """

    stem_names = ('conv1',)
    stage_names = tuple(f'blocks.{index}' for index in range(len(STAGES)))
    tail_names = ('conv2',)

    def __init__(
        self,
        widen_factor: float = 0.5,
        expansion: int = 6,
        out_indices: Sequence[int] = (6,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = KAIMING_INIT,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        check_widen_factor(widen_factor, narrowest=STAGES[0][0])
        if not isinstance(expansion, int) or expansion < 1:
            raise ConfigError(f'expansion={expansion!r}: expected an int >= 1')
        self.widen_factor = widen_factor
        in_channels = int(STEM_CHANNELS * widen_factor)
        self.conv1 = nn.Sequential(*conv_norm(3, in_channels, 3, stride=2), nn.ReLU())
        self.blocks = nn.ModuleList()
        for index, (base_channels, count, stride) in enumerate(STAGES):
            out_channels = int(base_channels * widen_factor)
            factor = expansion if index else 1
            self.blocks.append(_make_stage(in_channels, out_channels, count, stride, factor))
            in_channels = out_channels
        last_channels = int(LAST_CHANNELS * max(1, widen_factor))
        self.conv2 = nn.Sequential(*conv_norm(in_channels, last_channels, 1), nn.ReLU())
        self.freeze_stages()

    def stem(self, x: Tensor) -> Tensor:
        """Map the images to the input of the first stage, at half the size."""
        return self.conv1(x)

    def tail(self, x: Tensor) -> Tensor:
        """Apply the last 1x1 convolution."""
        return self.conv2(x)


def _make_stage(
    in_channels: int, out_channels: int, count: int, stride: int, expansion: int
) -> nn.Sequential:
    first = InvertedResidual(in_channels, out_channels, stride, expansion)
    rest = [InvertedResidual(out_channels, out_channels, 1, expansion) for _ in range(count - 1)]
    return nn.Sequential(first, *rest)
