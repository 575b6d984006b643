"""Automatic mixed precision on whatever device the model is on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper
from torch import nn
from torch.amp import GradScaler
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.registry import OPTIM_WRAPPERS

DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """MMEngine's AmpOptimWrapper for every device that ``torch.autocast`` knows, CPUs included.

    The device is the one that the optimizer's parameters are on. The gradient scaler works only
    where the forward pass runs in float16: bfloat16 has the range of float32. A checkpoint
    written with the scaler off resumes with it on, from its initial scale, and the reverse.

    Args:
        loss_scale (str | float | dict): ``'dynamic'``, a fixed scale, or the arguments of
            ``torch.amp.GradScaler``. Defaults to ``'dynamic'``.
        dtype (str | torch.dtype | None): ``'float16'``, ``'bfloat16'`` or None, the device's
            default: float16 on CUDA, bfloat16 on a CPU. Defaults to None.
        use_fsdp (bool): Use the gradient scaler of FullyShardedDataParallel. Defaults to False.
        **kwargs: Arguments of ``mmengine.optim.OptimWrapper``: optimizer, accumulative_counts,
            clip_grad.

    Raises:
        ValueError: If ``dtype`` or ``loss_scale`` is none of the above.

    Examples:
        >>> optim_wrapper = dict(
        ...     type='reviewkd_mm.AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    """

    def __init__(
        self,
        loss_scale: str | float | dict = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **kwargs: Any,
    ) -> None:
        # The parent's own __init__ is left out: it refuses a machine without an accelerator.
        OptimWrapper.__init__(self, **kwargs)
        self._dtype = _parse_dtype(dtype)
        self._scaler_class = ShardedGradScaler if use_fsdp else GradScaler
        self._scaler_options = _parse_loss_scale(loss_scale)
        # The parent's step() sets a fixed scale again after every update.
        self._scale_update_param = None
        if not isinstance(loss_scale, (str, dict)):
            self._scale_update_param = float(loss_scale)
        self._use_device(self._parameters_device())

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of ``model`` in mixed precision.

        Gradients are not synchronised inside it while they are being accumulated.

        Args:
            model (nn.Module): The model that is trained.
        """
        device_type = self._parameters_device()
        if device_type != self.device_type:
            self._use_device(device_type)
        autocast = torch.autocast(self.device_type, dtype=self.cast_dtype)
        with OptimWrapper.optim_context(self, model), autocast:
            yield

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state of the optimizer and of the gradient scaler.

        Args:
            state_dict (dict): What ``state_dict()`` of any optimizer wrapper returned.
        """
        state_dict = dict(state_dict)
        # A scaler that is off saves an empty state, which one that is on refuses to load.
        if not state_dict.get('loss_scaler'):
            state_dict.pop('loss_scaler', None)
        super().load_state_dict(state_dict)

    def _parameters_device(self) -> str:
        """Return the type of the device that the optimizer's parameters are on."""
        return self.optimizer.param_groups[0]['params'][0].device.type

    def _use_device(self, device_type: str) -> None:
        self.device_type = device_type
        self.cast_dtype = self._dtype or torch.get_autocast_dtype(device_type)
        self.loss_scaler = self._scaler_class(
            device_type, enabled=self.cast_dtype == torch.float16, **self._scaler_options
        )


def _parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or dtype in DTYPES.values():
        return dtype
    if dtype in DTYPES:
        return DTYPES[dtype]
    raise ConfigError(
        f'optim_wrapper.dtype={dtype!r}: expected one of {[*DTYPES]}, or None for the default of '
        'the device'
    )


def _parse_loss_scale(loss_scale: str | float | dict) -> dict[str, Any]:
    if loss_scale == 'dynamic':
        return {}
    if isinstance(loss_scale, dict):
        return dict(loss_scale)
    if isinstance(loss_scale, (int, float)) and not isinstance(loss_scale, bool):
        return {'init_scale': float(loss_scale)}
    raise ConfigError(
        f"optim_wrapper.loss_scale={loss_scale!r}: expected 'dynamic', a number, or a dict of "
        'arguments of torch.amp.GradScaler'
    )
