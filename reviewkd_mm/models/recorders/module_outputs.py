"""Tap the output of a module."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from reviewkd_mm.models.recorders.base_tap import BaseTap, TapHook
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class ModuleOutputs(BaseTap):
    """Read what a module returns.

    Args:
        source (str): Path of the module, such as ``'neck'`` or ``'backbone.layer1.-1'``.
        call (int | str): Which call of the module in one forward is read; negative counts from
            the last one, ``'all'`` reads all in order. Defaults to -1.
        layout (str): Order of the axes of a map, ``'NCHW'`` or ``'NHWC'``. Defaults to
            ``'NCHW'``.
    """

    def _register(self, module: nn.Module) -> RemovableHandle:
        return module.register_forward_hook(TapHook(self._record_output))

    def _record_output(self, module: nn.Module, args: tuple, output: Any) -> None:
        self._record(output)
