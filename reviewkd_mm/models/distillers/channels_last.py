"""The channels_last memory format of a model, and which models it would break."""

from __future__ import annotations

import torch
from torch import nn

# The channels that the widest vectors of a CPU hold in single precision (AVX-512).
VECTOR = 16


def set_memory_format(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay out the weights of 4 dimensions; ``Module.to`` would try those of 5 as well.

    Args:
        module (nn.Module): Whose weights, in place.
        memory_format (torch.memory_format): ``torch.channels_last`` or
            ``torch.contiguous_format``.
    """
    module._apply(lambda t: t.to(memory_format=memory_format) if t.dim() == 4 else t)


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
