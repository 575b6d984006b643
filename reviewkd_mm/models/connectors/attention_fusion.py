"""The fusion of a student feature with a smaller residual by two attention maps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable


def attention_fusion(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Fuse a feature with a residual, which is resized to it, by two attention maps.

    Equal in value and gradient to::

        residual = resize(residual)                                  # nearest
        a, b = sigmoid(conv1x1([x ; residual], weight, bias))
        fused = a * x + b * residual

    but nothing is concatenated, the residual's half of the convolution is computed before the
    resize, an enlarged residual is never stored, and the backward pass reuses one buffer.

    Args:
        x (Tensor): Feature (N, C, H, W).
        residual (Tensor): Residual (N, C, h, w).
        weight (Tensor): Weight (2, 2 * C, 1, 1) of the attention convolution.
        bias (Tensor): Its bias (2,).

    Returns:
        Tensor: The fused feature (N, C, H, W) in the dtype and memory format of ``x``.
    """
    if not _tiles_evenly(x, residual):
        residual = F.interpolate(residual, size=x.shape[-2:], mode='nearest')
    # The dtype of a normalised feature under autocast depends on the norm and the device.
    with torch.autocast(x.device.type, enabled=False):
        return _AttentionFusion.apply(x, *(t.to(x.dtype) for t in (residual, weight, bias)))


class _AttentionFusion(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        of_x, of_residual = weight.chunk(2, dim=1)
        logits = F.conv2d(x, of_x)
        _tiles(logits, residual).add_(_spread(F.conv2d(residual, of_residual, bias), x))
        attention = logits.sigmoid_()
        fused = x * attention[:, :1]
        _tiles(fused, residual).addcmul_(_spread(residual, x), _tiles(attention[:, 1:], residual))
        ctx.save_for_backward(x, residual, weight, attention)
        return fused

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, residual, weight, attention = ctx.saved_tensors
        of_x, of_residual = weight.chunk(2, dim=1)
        tiles = _tiles(grad, residual)

        # One buffer of the size of x, since what a new one costs is more than what is computed.
        buffer = torch.mul(grad, x, out=torch.empty_like(x))
        grad_a = _sum_channels(buffer)
        torch.mul(tiles, _spread(residual, x), out=_tiles(buffer, residual))
        grad_b = _sum_channels(buffer)
        grad_logits = torch.stack([grad_a, grad_b], dim=1) * (attention * (1 - attention))
        grad_bias = grad_logits.sum((0, 2, 3)).to(x.dtype)
        grad_logits = grad_logits.to(x.dtype)
        small_grad_logits = _sum_tiles(grad_logits, residual)

        torch.mul(grad, attention[:, 1:], out=buffer)
        grad_residual = _sum_tiles(buffer, residual, copy=True)
        _add_conv_gradient(grad_residual, small_grad_logits, of_residual)
        grad_x = torch.mul(grad, attention[:, :1], out=buffer)
        _add_conv_gradient(grad_x, grad_logits, of_x)
        halves = (
            _pixels(grad_logits).T @ _pixels(x),
            _pixels(small_grad_logits).T @ _pixels(residual),
        )
        # In the weight's strides, those of the size 1 too: DistributedDataParallel compares them.
        grad_weight = torch.empty_like(weight).copy_(torch.cat(halves, dim=1).view_as(weight))
        return grad_x, grad_residual, grad_weight, grad_bias


def _tiles_evenly(x: Tensor, residual: Tensor) -> bool:
    (height, width), (rows, columns) = x.shape[-2:], residual.shape[-2:]
    return height % rows == 0 and width % columns == 0


def _tiles(x: Tensor, residual: Tensor) -> Tensor:
    """View (N, C, H, W) as (N, C, h, H/h, w, W/w): each pixel of the residual and its tile."""
    if torch.compiler.is_compiling():
        return x
    rows, columns = residual.shape[-2:]
    return x.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))


def _spread(residual: Tensor, x: Tensor) -> Tensor:
    """View (N, C, h, w) so that it broadcasts over tiles."""
    # A compiler resizes inside the loop that reads it, and makes slow loops of views as tiles.
    if torch.compiler.is_compiling():
        return F.interpolate(residual, size=x.shape[-2:], mode='nearest')
    return residual[:, :, :, None, :, None]


def _sum_channels(x: Tensor) -> Tensor:
    """Sum (N, C, H, W) over C, in single precision at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    # A CPU would copy all of x to sum it in another dtype. The sum of bf16 is single inside, and
    # cannot overflow where it is rounded, as that of fp16 can.
    return x.sum(1).to(dtype) if x.dtype == torch.bfloat16 else x.sum(1, dtype=dtype)


def _sum_tiles(x: Tensor, residual: Tensor, copy: bool = False) -> Tensor:
    if x.shape[-2:] == residual.shape[-2:]:
        return x.clone() if copy else x
    tile = x.shape[-2] // residual.shape[-2], x.shape[-1] // residual.shape[-1]
    return F.avg_pool2d(x, tile, divisor_override=1)


def _add_conv_gradient(grad: Tensor, grad_logits: Tensor, weight: Tensor) -> None:
    """Add the gradient of a 1x1 convolution's input, in place, for each of the two outputs."""
    for output in range(2):
        channels = weight[output, :, 0, 0].view(1, -1, 1, 1)
        grad.addcmul_(grad_logits[:, output : output + 1], channels)


def _pixels(x: Tensor) -> Tensor:
    """View (N, C, H, W) in channels_last as (N * H * W, C)."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)
