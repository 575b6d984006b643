"""Stop, or skip the step, where a transfer's loss is NaN or infinite."""

from __future__ import annotations

from functools import partial
from itertools import zip_longest
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
from reviewkd_mm.errors import ConfigError, RunError
from reviewkd_mm.models.distillers import Distiller, Transfer
from reviewkd_mm.models.recorders.base_tap import TapHook
from reviewkd_mm.registry import HOOKS

SKIPPED = 'skipped_steps'
ADVICE = {
    'teacher': "check teacher_ckpt, or set teacher_options=dict(dtype='fp32')",
    'student': 'it has diverged, which a smaller learning rate or optim_wrapper.clip_grad '
    'prevents, or its images are damaged',
}


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop a training before the step in which a transfer's loss is NaN or infinite.

    The error names the transfer, the tap, the iteration, and smallest, greatest and mean value of
    every feature with the number of those that are not finite. The weights are still those of the
    step before. With several processes all act alike: one bad rank stops, or skips, the step of
    every rank, and the message is that of the bad one.

    The losses are looked at on the device, and read when the optimizer is about to step, while the
    backward pass runs: a look right after the forward pass would let the device wait. The features
    are kept until then.

    An infinite gradient of a finite loss, with which a gradient scaler looks for its scale, is no
    error. The task's own losses are not looked at: MMDetection's CheckInvalidLossHook does that.

    Args:
        skip (bool): Whether such a step is skipped instead: weights, momenta and buffers stay as
            they are. Each is logged as a warning, and their number as ``skipped_steps``. Costs a
            copy of the buffers in each step. Defaults to False.
        max_in_a_row (int): How many steps may be skipped in a row before the training stops after
            all. Defaults to 20.

    Raises:
        ValueError: If ``max_in_a_row`` is less than 1.

    Examples:
        >>> default_hooks = dict(non_finite_loss=dict(skip=True))  # beside those of the base
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
        self._in_a_row = 0
        self._iteration = 0
        self._distiller: Distiller | None = None
        self._handles: list[RemovableHandle] = []
        self._optimizers: list[Optimizer] = []
        self._buffers: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._forget()

    def before_train(self, runner: Runner) -> None:
        """Watch the transfers of a distiller; another model is left alone."""
        self.after_train(runner)
        self._distiller = distiller = distiller_of(runner)
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

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Forget the step before."""
        self._forget()
        self._iteration = runner.iter + 1
        if self._buffers:
            torch._foreach_copy_(self._kept, self._buffers)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Look at a step that the optimizer did not make, and put back what a bad one changed.

        There is none while gradients are accumulated, or where a gradient scaler refused it.

        Raises:
            RunError: If a loss is not finite, or too many steps in a row were skipped.
        """
        bad = self._find_bad()
        self._in_a_row = self._in_a_row + 1 if bad else 0
        if not (self.skip and self._distiller):
            return
        # Counted where a checkpoint keeps it.
        log = runner.message_hub.log_scalars.get(f'train/{SKIPPED}')
        skipped = (int(log.current()) if log is not None else 0) + bool(bad)
        runner.message_hub.update_scalar(f'train/{SKIPPED}', skipped)
        if bad:
            self._drop_gradients()
            torch._foreach_copy_(self._buffers, self._kept)
            report = self._report(bad)
            if self._in_a_row > self.max_in_a_row:
                raise RunError(
                    f'NonFiniteLossHook: more than max_in_a_row={self.max_in_a_row} steps in a '
                    f'row would be skipped. {report}'
                )
            runner.logger.warning(f'The step is skipped, {skipped} by now. {report}')
        self._forget()

    def after_train(self, runner: Runner) -> None:
        """Watch no longer."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._optimizers, self._buffers, self._kept = [], [], []
        self._forget()

    @torch.compiler.disable
    def _note(self, name: str, transfer: Transfer, args: tuple, loss: Tensor) -> None:
        self._losses[name] = loss.detach()
        sides = dict(
            student=self._distiller.student_recorders[name],
            teacher=self._distiller.teacher_recorders[name],
        )
        named = [
            [
                (side, tap, value.detach())
                for tap, value in zip(recorder.names(), values, strict=True)
            ]
            for (side, recorder), values in zip(sides.items(), args, strict=False)
        ]
        stages = zip_longest(*named)  # Shallow to deep, the two sides of a stage together.
        self._features[name] = [feature for stage in stages for feature in stage if feature]

    @torch.compiler.disable
    def _look(self, model: nn.Module, args: Any, output: Any) -> None:
        """Send to the CPU, without waiting, whether each loss is finite on every rank."""
        if not self._losses:
            return
        flags = torch.stack([~torch.isfinite(loss).all() for loss in self._losses.values()])
        flags = flags.float()
        all_reduce(flags, 'max')
        self._flags, self._copied = flags, None
        if flags.is_cuda:
            self._flags = torch.empty(flags.shape, pin_memory=True).copy_(flags, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._find_bad():
            self._drop_gradients()

    def _find_bad(self) -> list[str]:
        """Return the names of the transfers whose loss is not finite on any rank."""
        if self._flags is not None:
            if self._copied is not None:
                self._copied.synchronize()
            flags, self._flags = self._flags.tolist(), None
            self._bad = [name for name, bad in zip(self._losses, flags, strict=True) if bad]
            if not self._bad:
                self._features.clear()
        if self._bad and not self.skip:
            raise RunError(self._report(self._bad))
        return self._bad

    def _report(self, names: list[str]) -> str:
        own = [
            self._describe(name) for name in names if not torch.isfinite(self._losses[name]).all()
        ]
        ranks = all_gather_object(own)
        if len(ranks) == 1:
            return '\n'.join(own)
        return '\n'.join(
            f'rank {rank}: {text}' for rank, found in enumerate(ranks) for text in found
        )

    def _describe(self, name: str) -> str:
        """Say which stage of a transfer is not finite first, and what all of them are."""
        loss = self._losses[name].mean().item()
        head = f'transfers.{name}: the loss is {loss} in iteration {self._iteration}'
        features = self._features[name]
        bad = [(side, tap) for side, tap, value in features if not torch.isfinite(value).all()]
        weights = self._distiller.transfers[name].named_parameters()
        bad_weights = [path for path, weight in weights if not torch.isfinite(weight).all()]
        if bad:
            cause = "the {}'s feature at the tap '{}' is not finite; {}".format(
                *bad[0], ADVICE[bad[0][0]]
            )
        elif bad_weights:
            cause = f'the features are finite, but {bad_weights[0]} is not'
        else:
            cause = 'all features are finite, but not what the connector or the loss made of them'
        return '\n  '.join([f'{head}: {cause}:', *(_summarise(*feature) for feature in features)])

    def _drop_gradients(self) -> None:
        """Leave the optimizers nothing to do: without a gradient they pass a parameter over."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for parameter in group['params']:
                    parameter.grad = None

    def _forget(self) -> None:
        self._losses: dict[str, Tensor] = {}
        self._features: dict[str, list[tuple[str, str, Tensor]]] = {}
        self._flags: Tensor | None = None
        self._copied: torch.cuda.Event | None = None
        self._bad: list[str] = []


def _summarise(side: str, tap: str, value: Tensor) -> str:
    finite = value[torch.isfinite(value)]
    kind = str(value.dtype).removeprefix('torch.')
    count = f'{value.numel() - finite.numel()} of {value.numel()} not finite'
    if finite.numel():
        low, high, mean = (x.item() for x in (finite.min(), finite.max(), finite.mean()))
        count = f'min {low:.4g}, max {high:.4g}, mean {mean:.4g}, {count}'
    return f"{side} '{tap}' {tuple(value.shape)} {kind}: {count}"


def _optimizers(wrapper: OptimWrapper | OptimWrapperDict) -> list[Optimizer]:
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    optimizers = [wrapper.optimizer for wrapper in wrappers]
    # DeepSpeed's is not of torch but has one that is, which makes its steps.
    return [getattr(optimizer, 'optimizer', optimizer) for optimizer in optimizers]
