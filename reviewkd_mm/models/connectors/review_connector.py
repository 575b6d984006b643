"""The review mechanism over all stages."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from mmengine.model import BaseModule
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.connectors.abf import ABF
from reviewkd_mm.registry import MODELS
from reviewkd_mm.utils import check_bool


@MODELS.register_module()
class ReviewConnector(BaseModule):
    """Map the student's stages into the teacher's, each reviewed together with the deeper ones.

    A chain of :class:`ABF`, run from the deepest stage outwards: each one fuses its student
    feature with the residual of the one before. From "Distilling Knowledge via Knowledge
    Review" (CVPR 2021, arXiv 2104.09044).

    Args:
        in_channels (Sequence[int]): Channels of the student features, shallow to deep.
        out_channels (Sequence[int]): Channels of the teacher features, shallow to deep.
        mid_channels (int, optional): Channels in which features are fused. Defaults to None,
            which means ``min(512, in_channels[-1])``.
        norm_cfg (dict, optional): Normalisation of the convolutions, for example
            ``dict(type='SyncBN')`` or ``dict(type='GN', num_groups=32)``. Defaults to None,
            which means ``dict(type='BN')``.
        init_cfg (dict, optional): MMEngine's initialisation config, for example ``Pretrained``.
            Defaults to None, which keeps the authors' initialisation.
        attention (bool): Whether features are fused by attention; otherwise they are added up,
            as in the ablation of the paper. Defaults to True.

    Raises:
        ValueError: If the two lists differ in length or are empty, ``mid_channels`` is no positive
            integer, or ``attention`` no bool.

    Examples:
        >>> connector = ReviewConnector([16, 32, 64], [32, 64, 128])
        >>> features = [torch.rand(2, 16, 8, 8), torch.rand(2, 32, 4, 4), torch.rand(2, 64, 2, 2)]
        >>> [tuple(x.shape) for x in connector(features)]
        [(2, 32, 8, 8), (2, 64, 4, 4), (2, 128, 2, 2)]
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        mid_channels: int | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
        attention: bool = True,
    ) -> None:
        super().__init__(init_cfg)
        if not in_channels or len(in_channels) != len(out_channels):
            raise ConfigError(
                'the review mechanism needs as many student features as teacher features, at '
                f'least one: got in_channels={list(in_channels)} ({len(in_channels)}) and '
                f'out_channels={list(out_channels)} ({len(out_channels)})'
            )
        if mid_channels is None:
            mid_channels = min(512, in_channels[-1])
        if not isinstance(mid_channels, Integral) or mid_channels < 1:
            raise ConfigError(f'mid_channels={mid_channels!r}: expected an integer of at least 1')
        check_bool('attention', attention)
        deepest = len(in_channels) - 1
        self.abfs = nn.ModuleList(
            ABF(inner, mid_channels, outer, stage < deepest, norm_cfg, attention)
            for stage, (inner, outer) in enumerate(zip(in_channels, out_channels, strict=True))
        )

    def forward(
        self,
        features: Sequence[Tensor],
        out_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[Tensor]:
        """Review the student's features, deepest first.

        Args:
            features (Sequence[Tensor]): Student features (N, C_i, H_i, W_i), shallow to deep.
            out_sizes (Sequence[tuple[int, int]], optional): (H, W) of each teacher feature,
                shallow to deep. Defaults to None, which keeps the student's sizes.

        Returns:
            list[Tensor]: Features (N, out_channels[i], *out_sizes[i]), shallow to deep.

        Raises:
            ValueError: If the number of features or of sizes is not the number of stages.
        """
        sizes = [None] * len(features) if out_sizes is None else out_sizes
        if not len(features) == len(sizes) == len(self.abfs):
            raise ConfigError(
                f'expected {len(self.abfs)} features and as many sizes, got {len(features)} '
                f'and {len(sizes)}'
            )
        residual, outputs = None, []
        for abf, feature, size in zip(
            reversed(self.abfs), reversed(features), reversed(sizes), strict=True
        ):
            output, residual = abf(feature, residual, size)
            outputs.append(output)
        return outputs[::-1]
