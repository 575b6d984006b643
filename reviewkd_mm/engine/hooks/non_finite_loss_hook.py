"""Stop, or skip the step, where a transfer's loss is NaN or infinite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from reviewkd_mm.engine.hooks.distiller_of import distiller_of
from reviewkd_mm.engine.hooks.feature_report import Feature, describe_transfer, recorded_features
from reviewkd_mm.errors import ConfigError, RunError
from reviewkd_mm.models.distillers.transfer import Transfer
from reviewkd_mm.models.recorders.base_tap import TapHook
from reviewkd_mm.registry import HOOKS

SKIPPED = 'skipped_steps'


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop a training before the step in which a transfer's loss is NaN or infinite.

    The error names the transfer, the tap, the iteration, and smallest, greatest and mean value of
    every feature with the number of those that are not finite. The weights are still those of the
    step before. With several processes all act alike: one bad rank stops, or skips, the step of
    every rank, and the message is that of the bad one.

    Whether the loss is finite is found out on the device and copied from there while the backward
    pass runs; it is looked at when the optimizer is about to step. So the device never runs out
    of work for it, unlike with a look at the loss right after the forward pass, while a look once
    in an interval would find weights and features that are ruined already. It costs a tensor of
    one number a transfer and, in a distributed training, its all-reduce; and the teacher's
    features are kept until then.

    An infinite gradient of a finite loss, with which a gradient scaler looks for its scale, is no
    error. The task's own losses are not looked at: MMDetection's CheckInvalidLossHook does that.

    Args:
        skip (bool): Whether such a step is skipped instead: its gradients are dropped, so that
            weights and momenta stay as they are, and the buffers, such as BatchNorm's running
            statistics, are put back. Each is logged as a warning, and their number as
            ``skipped_steps``. A gradient scaler halves its scale as after any overflow. Costs a
            copy of the buffers in each step. Defaults to False.
        max_in_a_row (int): How many steps may be skipped in a row before the training stops after
            all. Defaults to 20.

    Raises:
        ValueError: If ``max_in_a_row`` is less than 1.

    Examples:
        >>> custom_hooks = [dict(type='reviewkd_mm.NonFiniteLossHook', skip=True)]
    """

    # Before EMAHook, which copies the buffers, and before LoggerHook.
    priority = 'ABOVE_NORMAL'

    def __init__(self, skip: bool = False, max_in_a_row: int = 20) -> None:
        if not isinstance(max_in_a_row, int) or max_in_a_row < 1:
            raise ConfigError(
                f'NonFiniteLossHook: max_in_a_row={max_in_a_row!r}: expected a number of steps, '
                'at least 1'
            )
        self.skip = skip
        self.max_in_a_row = max_in_a_row
        self._skipped = 0
        self._in_a_row = 0
        self._iteration = 0
        self._handles: list[RemovableHandle] = []
        self._optimizers: list[Optimizer] = []
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._forget()

    def before_train(self, runner: Runner) -> None:
        """Watch the transfers of a distiller; another model is left alone.

        Args:
            runner (Runner): The runner.
        """
        self._close()
        distiller = distiller_of(runner)
        if distiller is None:
            return
        for name, transfer in distiller.transfers.items():
            hook = TapHook(partial(self._note, name))
            self._handles.append(transfer.register_forward_hook(hook))
        self._handles.append(distiller.register_forward_hook(TapHook(self._look)))
        self._optimizers = _optimizers(runner.optim_wrapper)
        for optimizer in self._optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._before_step))
        if self.skip:
            self._buffers = list(distiller.buffers())
            self._kept = [buffer.clone() for buffer in self._buffers]
            # Of a training that was resumed.
            log = runner.message_hub.log_scalars.get(f'train/{SKIPPED}')
            self._skipped = int(log.current()) if log is not None else 0

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | Sequence | None = None
    ) -> None:
        """Forget the step before.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch, unused.
            data_batch (dict | tuple | Sequence, optional): The batch, unused. Defaults to None.
        """
        self._forget()
        self._iteration = runner.iter + 1
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Look at a step that the optimizer did not make, and put back what a bad one changed.

        There is none while gradients are accumulated, or where a gradient scaler refused it.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch, unused.
            data_batch (dict | tuple | Sequence, optional): The batch, unused. Defaults to None.
            outputs (dict, optional): The losses by name, unused. Defaults to None.

        Raises:
            RuntimeError: If a loss is not finite, or too many steps in a row were skipped.
        """
        bad = self._find_bad()
        self._in_a_row = self._in_a_row + 1 if bad else 0
        if bad:
            for optimizer in self._optimizers:
                _drop_gradients(optimizer)
            torch._foreach_copy_(self._buffers, self._kept)
            self._skipped += 1
            report = self._report(bad)
            if self._in_a_row > self.max_in_a_row:
                raise RunError(
                    f'NonFiniteLossHook: more than max_in_a_row={self.max_in_a_row} steps in a '
                    f'row would be skipped. {report}'
                )
            runner.logger.warning(f'The step is skipped, {self._skipped} by now. {report}')
        if self.skip and self._handles:
            runner.message_hub.update_scalar(f'train/{SKIPPED}', self._skipped)
        self._forget()

    def after_train(self, runner: Runner) -> None:
        """Watch no longer.

        Args:
            runner (Runner): The runner.
        """
        self._close()

    @torch.compiler.disable
    def _note(self, name: str, transfer: Transfer, args: Any, loss: Tensor) -> None:
        self._notes[name] = _Note(transfer, loss.detach(), recorded_features(transfer))

    @torch.compiler.disable
    def _look(self, model: nn.Module, args: Any, output: Any) -> None:
        if not self._notes:
            return
        losses = [note.loss for note in self._notes.values()]
        flags = torch.stack([~torch.isfinite(loss).all() for loss in losses]).float()
        all_reduce(flags, 'max')
        self._flags = _HostCopy(flags)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._find_bad():
            _drop_gradients(optimizer)

    def _find_bad(self) -> list[str]:
        """Return the names of the transfers whose loss is not finite on any rank."""
        if self._flags is not None:
            self._bad = [
                name for name, bad in zip(self._notes, self._flags.read(), strict=True) if bad
            ]
            self._flags = None
            if not self._bad:
                self._notes.clear()
        if self._bad and not self.skip:
            raise RunError(self._report(self._bad))
        return self._bad

    def _report(self, names: list[str]) -> str:
        own = [
            describe_transfer(name, note.loss, note.features, note.transfer, self._iteration)
            for name, note in self._notes.items()
            if name in names and not torch.isfinite(note.loss).all()
        ]
        ranks = all_gather_object(own)
        if len(ranks) == 1:
            return '\n'.join(own)
        return '\n'.join(
            f'rank {rank}: {text}' for rank, texts in enumerate(ranks) for text in texts
        )

    def _forget(self) -> None:
        self._notes: dict[str, _Note] = {}
        self._flags: _HostCopy | None = None
        self._bad: list[str] = []

    def _close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._optimizers, self._buffers, self._kept = [], [], []
        self._forget()


@dataclass
class _Note:
    """A transfer's loss with what it was made of."""

    transfer: Transfer
    loss: Tensor
    features: list[Feature]


class _HostCopy:
    """A tensor on its way to the CPU; reading it waits for nothing that was queued later."""

    def __init__(self, tensor: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._values = tensor
        if tensor.is_cuda:
            self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._values.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[float]:
        if self._event is not None:
            self._event.synchronize()
        return self._values.tolist()


def _optimizers(wrapper: OptimWrapper | OptimWrapperDict) -> list[Optimizer]:
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    optimizers = [wrapper.optimizer for wrapper in wrappers]
    # DeepSpeed's is not of torch but has one that is, which makes its steps.
    return [getattr(optimizer, 'optimizer', optimizer) for optimizer in optimizers]


def _drop_gradients(optimizer: Optimizer) -> None:
    """Leave the optimizer nothing to do: without a gradient it passes a parameter over."""
    for group in optimizer.param_groups:
        for parameter in group['params']:
            parameter.grad = None
