"""Attention-based fusion, the building block of the review mechanism."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.connectors.attention_fusion import attention_fusion
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class ABF(nn.Module):
    """Attention-based fusion (ABF) of one student stage with the deeper stages' residual.

    The student feature is reduced to ``mid_channels``, fused with the residual of the next
    deeper stage by two attention maps, resized to the teacher's size and expanded to the
    teacher's channels::

        x = conv1(x)
        a, b = sigmoid(att_conv([x ; residual]))
        x = a * x + b * residual
        output = conv2(resize(x))

    From "Distilling Knowledge via Knowledge Review" (CVPR 2021, arXiv 2104.09044).

    Args:
        in_channels (int): Channels of the student feature.
        mid_channels (int): Channels in which the features are fused.
        out_channels (int): Channels of the teacher feature.
        fuse (bool): Whether there is a residual to fuse, which the deepest stage lacks.
            Defaults to True.
        norm_cfg (dict, optional): Normalisation of both convolutions. Defaults to None, which
            means ``dict(type='BN')``.
        attention (bool): Whether the two are weighted by attention maps; otherwise they are
            added up, as in the ablation of the paper. Defaults to True.

    Examples:
        >>> abf = ABF(in_channels=64, mid_channels=64, out_channels=128)
        >>> x, residual = torch.rand(2, 64, 8, 8), torch.rand(2, 64, 4, 4)
        >>> output, residual = abf(x, residual, out_size=(16, 16))
        >>> output.shape
        torch.Size([2, 128, 16, 16])
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        fuse: bool = True,
        norm_cfg: dict | None = None,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.fuse = fuse
        norm_cfg = norm_cfg or dict(type='BN')
        self.conv1 = ConvModule(
            in_channels, mid_channels, 1, bias=False, norm_cfg=norm_cfg, act_cfg=None
        )
        self.conv2 = ConvModule(
            mid_channels, out_channels, 3, padding=1, bias=False, norm_cfg=norm_cfg, act_cfg=None
        )
        self.att_conv = nn.Conv2d(2 * mid_channels, 2, 1) if fuse and attention else None
        for module in (self.conv1, self.conv2):
            # The authors' gain. ConvModule draws with another one, and would again if an
            # init_weights of MMEngine walked into it: that is why ABF is a plain nn.Module.
            nn.init.kaiming_uniform_(module.conv.weight, a=1)

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None = None,
        out_size: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Fuse a student feature with the residual of the next deeper stage.

        Args:
            x (Tensor): Student feature (N, in_channels, H, W).
            residual (Tensor, optional): Residual (N, mid_channels, h, w) of the next deeper
                stage, resized to (H, W) here. Needed exactly if ``fuse``. Defaults to None.
            out_size (tuple[int, int], optional): (H, W) of the teacher feature. Defaults to
                None, which means the size of ``x``.

        Returns:
            tuple[Tensor, Tensor]: The output (N, out_channels, *out_size), to compare with the
            teacher, and the residual (N, mid_channels, *out_size) for the next shallower stage.

        Raises:
            ValueError: If a residual is given to an ABF with ``fuse=False`` or is missing.
        """
        if (residual is not None) != self.fuse:
            expected = 'a residual' if self.fuse else 'no residual'
            raise ConfigError(f'ABF was built with fuse={self.fuse} and takes {expected}')
        x = self.conv1(x)
        if residual is not None:
            x = self._fuse(x, residual)
        if out_size is not None:
            x = _resize(x, out_size)
        return self.conv2(x), x

    def attention_maps(self, x: Tensor, residual: Tensor) -> Tensor:
        """Compute the two maps that weigh a feature and a residual where they are fused.

        The forward fuses without storing them; this is for looking at them.

        Args:
            x (Tensor): Reduced student feature (N, mid_channels, H, W), what ``conv1`` returns.
            residual (Tensor): Residual (N, mid_channels, h, w) of the next deeper stage.

        Returns:
            Tensor: Maps (N, 2, H, W) with values in [0, 1]: the weight of ``x`` and that of the
            residual.

        Raises:
            ValueError: If the ABF has no attention: the deepest one, or ``attention=False``.
        """
        if self.att_conv is None:
            raise ConfigError(
                f'ABF was built with fuse={self.fuse} and has no attention maps; expected one '
                'with fuse=True and attention=True'
            )
        residual = _resize(residual, x.shape[-2:])
        return self.att_conv(torch.cat([x, residual], dim=1)).sigmoid()

    def _fuse(self, x: Tensor, residual: Tensor) -> Tensor:
        if self.att_conv is None:
            return x + _resize(residual, x.shape[-2:])
        return attention_fusion(x, residual, self.att_conv.weight, self.att_conv.bias)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode='nearest')
