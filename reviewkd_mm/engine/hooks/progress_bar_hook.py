"""A progress bar at the terminal, below MMEngine's log lines."""

from __future__ import annotations

import atexit
import logging
import sys
import time
from collections.abc import Sequence

import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from reviewkd_mm.registry import HOOKS


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Show epoch, iteration, eta and loss in one line that disappears with the training.

    The bar is drawn by the first process alone, and only where standard error or standard output
    is an interactive terminal; the log lines are written above it. What is not a terminal, such
    as a log file, gets nothing.

    Args:
        interval (float): Least time between two updates, in seconds: each waits for the device,
            to read the loss. Defaults to 0.2.
    """

    def __init__(self, interval: float = 0.2) -> None:
        self.interval = interval
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._redirected: list[logging.StreamHandler] = []
        self._last_update = 0.0

    def before_train(self, runner: Runner) -> None:
        """Start the bar at the iteration that the training starts or resumes from.

        Args:
            runner (Runner): The runner.
        """
        console = _interactive_console()
        if runner.rank != 0 or console is None:
            return
        self._progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn('iter'),
            MofNCompleteColumn(),
            TextColumn('eta'),
            TimeRemainingColumn(),
            TextColumn('{task.fields[status]}'),
            console=console,
            transient=True,
            # A thread that redraws could hold rich's lock while dataloader workers are forked.
            auto_refresh=False,
            speed_estimate_period=120,
            # What goes to a file stays there; what goes to the terminal goes above the bar.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )
        self._task = self._progress.add_task(
            _describe(runner), completed=runner.iter, total=runner.max_iters, status=''
        )
        # The terminal is given back when the training ends by an exception, too.
        atexit.register(self._stop)
        stdout = sys.stdout
        self._progress.start()
        self._redirect_log_lines(runner.logger, stdout)

    def before_train_epoch(self, runner: Runner) -> None:
        """Show the number of the epoch.

        Args:
            runner (Runner): The runner.
        """
        if self._progress:
            self._update(description=_describe(runner))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Move the bar on by one iteration.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch, unused.
            data_batch (dict | tuple | Sequence, optional): The batch, unused. Defaults to None.
            outputs (dict, optional): The losses by name. Defaults to None.
        """
        if not self._is_due():
            return
        loss = (outputs or {}).get('loss')
        status = '' if loss is None else f'loss {torch.as_tensor(loss).detach().item():.4g}'
        self._update(completed=runner.iter + 1, status=status)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Show how far a validation in the course of the training is.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch.
            data_batch (dict | tuple | Sequence, optional): The batch, unused. Defaults to None.
            outputs (Sequence, optional): The predictions, unused. Defaults to None.
        """
        if self._is_due():
            self._update(status=f'validating {batch_idx + 1}/{len(runner.val_dataloader)}')

    def after_train(self, runner: Runner) -> None:
        """Take the bar away.

        Args:
            runner (Runner): The runner.
        """
        self._stop()

    def _is_due(self) -> bool:
        return bool(self._progress) and time.monotonic() - self._last_update >= self.interval

    def _update(self, **fields: object) -> None:
        self._progress.update(self._task, refresh=True, **fields)
        self._last_update = time.monotonic()

    def _redirect_log_lines(self, logger: logging.Logger, stdout: object) -> None:
        """Hand rich the log lines: their handlers hold the standard output of before."""
        for handler in logger.handlers:
            if getattr(handler, 'stream', None) is stdout:
                handler.setStream(sys.stdout)
                self._redirected.append(handler)

    def _stop(self) -> None:
        if self._progress is None:
            return
        self._progress.stop()
        self._progress = None
        for handler in self._redirected:
            handler.setStream(sys.stdout)
        self._redirected.clear()
        atexit.unregister(self._stop)


def _interactive_console() -> Console | None:
    """Return a console on standard error, or else standard output, if one is a terminal."""
    for stream in (sys.stderr, sys.stdout):
        console = Console(file=stream)
        if stream.isatty() and console.is_interactive:
            return console
    return None


def _describe(runner: Runner) -> str:
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return 'train'
    return f'epoch {min(runner.epoch + 1, runner.max_epochs)}/{runner.max_epochs}'
