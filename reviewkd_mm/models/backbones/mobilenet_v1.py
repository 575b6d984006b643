"""MobileNetV1 for ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reviewkd_mm.models.backbones.layers import check_widen_factor, conv_norm
from reviewkd_mm.models.backbones.staged_backbone import StagedBackbone
from reviewkd_mm.registry import MODELS

STEM_CHANNELS = 32
# Channels and stride of blocks 1 to 13.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)


@MODELS.register_module()
class MobileNetV1(StagedBackbone):
    """MobileNetV1: a stem and 13 depthwise separable blocks.

    From "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications"
    (arXiv 1704.04861). Parameters have the names that ReviewKD's checkpoints use. Each block is a
    stage. Every block is run on its own, so the output of ``model`` cannot be tapped, but that of
    ``model.13`` is the same.

    ============================================  ========================================
    feature                                       tap
    ============================================  ========================================
    last blocks at strides 4, 8, 16 and 32        outputs of ``model.3``, ``model.5``,
                                                  ``model.11``, ``model.13``
    the same before their last ReLU               inputs of ``model.3.5``, ``model.5.5``,
                                                  ``model.11.5``, ``model.13.5``
    ============================================  ========================================

    Args:
        widen_factor (float): Factor on the channels, rounded down. Defaults to 1.0.
        out_indices (Sequence[int]): Stages that are returned, from 0 (``model.1``) to 12
            (``model.13``); a detector takes (2, 4, 10, 12). Defaults to (12,).
        frozen_stages (int): Frozen stages: 0 is the stem, k the stem and the first k stages.
            Defaults to -1, none.
        norm_eval (bool): Whether every BN keeps its running statistics in training.
            Defaults to False.
        init_cfg (dict | list[dict], optional): Initialisation. Defaults to None, PyTorch's own.

    Raises:
        ValueError: If an argument is out of range.

    Examples:
        >>> model = MobileNetV1()
        >>> [tuple(x.shape) for x in model(torch.rand(2, 3, 224, 224))]
        [(2, 1024, 7, 7)]
    """

    stem_names = ('model.0',)
    stage_names = tuple(f'model.{index + 1}' for index in range(len(BLOCKS)))

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (12,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(out_indices, frozen_stages, norm_eval, init_cfg)
        check_widen_factor(widen_factor, narrowest=STEM_CHANNELS)
        self.widen_factor = widen_factor
        in_channels = int(STEM_CHANNELS * widen_factor)
        self.model = nn.Sequential(
            nn.Sequential(*conv_norm(3, in_channels, 3, stride=2), nn.ReLU())
        )
        for base_channels, stride in BLOCKS:
            out_channels = int(base_channels * widen_factor)
            self.model.append(_make_block(in_channels, out_channels, stride))
            in_channels = out_channels
        self.freeze_stages()

    def stem(self, x: Tensor) -> Tensor:
        """Map the images to the input of the first stage, at half the size."""
        return self.model[0](x)


def _make_block(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm(in_channels, in_channels, 3, stride, groups=in_channels),
        nn.ReLU(),
        *conv_norm(in_channels, out_channels, 1),
        nn.ReLU(),
    )
