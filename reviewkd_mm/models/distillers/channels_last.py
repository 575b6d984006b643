"""The channels_last memory format of a model, and which models it would break."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# The channels that the widest vectors of a CPU hold in single precision (AVX-512).
VECTOR = 16


def set_memory_format(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out the weights of 4 dimensions; ``Module.to`` would try those of 5 as well.

    MMCV's ops, such as RoIAlign and deformable convolutions, keep their own and get their inputs
    and gradients in the contiguous format: compiled, most read any other as if it were that one.

    Args:
        module (nn.Module): Whose weights, in place.
        memory_format (torch.memory_format): ``torch.channels_last`` or
            ``torch.contiguous_format``.
    """
    module._apply(lambda t: t.to(memory_format=memory_format) if t.dim() == 4 else t)
    if memory_format == torch.contiguous_format:
        return
    for op in filter(_is_mmcv_op, module.modules()):
        op._apply(_contiguous)
        if contiguous_inputs not in op._forward_pre_hooks.values():
            op.register_forward_pre_hook(contiguous_inputs, with_kwargs=True)
            op.register_forward_hook(contiguous_gradients)


def contiguous_inputs(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give a module its inputs in the contiguous format: a forward pre-hook.

    Args:
        module (nn.Module): The module, unused.
        args (tuple): Its inputs.
        kwargs (dict[str, Any]): Its inputs by name.

    Returns:
        tuple[tuple, dict[str, Any]]: Both, with the tensors of 4 dimensions laid out.
    """
    return (
        tuple(_contiguous(value) for value in args),
        {name: _contiguous(value) for name, value in kwargs.items()},
    )


def contiguous_gradients(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    """Let the backward of a module get its gradient in the contiguous format: a forward hook.

    Args:
        module (nn.Module): The module, unused.
        args (tuple): Its inputs, unused.
        output (Any): What it gives.
    """
    for tensor in output if isinstance(output, (list, tuple)) else [output]:
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            tensor.register_hook(_contiguous)


def _is_mmcv_op(module: nn.Module) -> bool:
    return any(base.__module__.startswith('mmcv.ops.') for base in type(module).__mro__)


def _contiguous(value: Any) -> Any:
    return value.contiguous() if isinstance(value, Tensor) and value.dim() == 4 else value


def thin_strided_convs(model: nn.Module) -> list[str]:
    """Name the convolutions whose weight gradient a CPU computes wrongly in channels_last.

    On a CPU, PyTorch (2.14 and earlier ones) writes past the end of a buffer in the weight
    gradient of a 1x1 convolution with a stride whose input has fewer channels than a vector:
    2 to 7 with AVX2, 2 to 9 and 12 with AVX-512. The process crashes later, anywhere.

    Args:
        model (nn.Module): A model that is to be trained.

    Returns:
        list[str]: Their names in the model.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels // module.groups < VECTOR
    ]
