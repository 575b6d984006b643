"""Tap the input of a module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from reviewkd_mm.models.recorders.base_tap import BaseTap, TapHook
from reviewkd_mm.registry import MODELS


@MODELS.register_module()
class ModuleInputs(BaseTap):
    """Read what a module is given: the input of a ReLU is the feature before it.

    Args:
        source (str): Path of the module, such as ``'backbone.layer1.-1.relu'``.
        call (int | str): Which call of the module in one forward is read; negative counts from
            the last one, ``'all'`` reads all in order. Defaults to -1.
        layout (str): Order of the axes of a map, ``'NCHW'`` or ``'NHWC'``. Defaults to
            ``'NCHW'``.
    """

    side = ' (input)'

    def _register(self, module: nn.Module) -> RemovableHandle:
        return module.register_forward_pre_hook(TapHook(self._record_inputs), with_kwargs=True)

    def _record_inputs(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        values = [*args, *kwargs.values()]
        self._record([v for v in values if isinstance(v, (Tensor, list, tuple, dict))])
