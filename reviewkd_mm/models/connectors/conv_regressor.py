"""A convolution for each stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.registry import MODELS
from reviewkd_mm.utils import check_bool


@MODELS.register_module()
class ConvRegressor(nn.Module):
    """Map each stage of the student to the teacher's by itself: 1x1 convolution, BN and ReLU.

    The regressor of FitNets ("FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv 1412.6550) as
    later re-implementations have it, and without the ReLU the connector of "A Comprehensive
    Overhaul of Feature Distillation" (ICCV 2019, arXiv 1904.01866), whose initialisation it has
    too. A feature of another size than the teacher's is first averaged over the teacher's pixels,
    which repeats its own where it is smaller.

    Args:
        in_channels (Sequence[int]): Channels of the student features, shallow to deep.
        out_channels (Sequence[int]): Channels of the teacher features, shallow to deep.
        norm_cfg (dict, optional): Normalisation of the convolutions. Defaults to None, which
            means ``dict(type='BN')``.
        relu (bool): Whether a ReLU follows, which features before a ReLU do without. Defaults to
            True.

    Raises:
        ValueError: If the two lists differ in length or are empty.

    Examples:
        >>> connector = ConvRegressor([16, 32], [32, 64])
        >>> features = [torch.rand(2, 16, 8, 8), torch.rand(2, 32, 4, 4)]
        >>> [tuple(x.shape) for x in connector(features)]
        [(2, 32, 8, 8), (2, 64, 4, 4)]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        norm_cfg: dict | None = None,
        relu: bool = True,
    ) -> None:
        super().__init__()
        if not in_channels or len(in_channels) != len(out_channels):
            raise ConfigError(
                'expected as many student features as teacher features, at least one: got '
                f'in_channels={list(in_channels)} and out_channels={list(out_channels)}'
            )
        check_bool('relu', relu)
        norm_cfg = norm_cfg or dict(type='BN')
        act_cfg = dict(type='ReLU') if relu else None
        self.convs = nn.ModuleList(
            ConvModule(inner, outer, 1, norm_cfg=norm_cfg, act_cfg=act_cfg, inplace=False)
            for inner, outer in zip(in_channels, out_channels, strict=True)
        )

    def forward(
        self,
        features: Sequence[Tensor],
        out_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[Tensor]:
        """Map the student's features.

        Args:
            features (Sequence[Tensor]): Student features (N, C_i, H_i, W_i), shallow to deep.
            out_sizes (Sequence[tuple[int, int]], optional): (H, W) of each teacher feature,
                shallow to deep. Defaults to None, which keeps the student's sizes.

        Returns:
            list[Tensor]: Features (N, out_channels[i], *out_sizes[i]), shallow to deep.

        Raises:
            ValueError: If the number of features or of sizes is not the number of stages.
        """
        sizes = [x.shape[-2:] for x in features] if out_sizes is None else out_sizes
        if not len(features) == len(sizes) == len(self.convs):
            raise ConfigError(
                f'expected {len(self.convs)} features and as many sizes, got {len(features)} '
                f'and {len(sizes)}'
            )
        stages = zip(self.convs, features, sizes, strict=True)
        return [conv(_resize(x, size)) for conv, x, size in stages]


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.adaptive_avg_pool2d(x, tuple(size))
