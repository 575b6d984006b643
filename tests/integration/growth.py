"""What is alive during a training, and how long its steps take."""

from __future__ import annotations

import copy
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from reviewkd_mm.models.recorders.base_tap import BaseTap

PAGE = os.sysconf('SC_PAGE_SIZE')
# Steps between two runs of the student alone.
YARDSTICK_INTERVAL = 5


class Alive(NamedTuple):
    """What is alive after an iteration.

    Args:
        iteration (int): How many iterations were run.
        objects (int): Python objects that the garbage collector knows.
        tensors (int): Tensors among them.
        hooks (int): Hooks of all modules, those of the teacher and of copies included.
        values (int): Taps that hold a value.
        memory (float): Memory of the process in MiB.
    """

    iteration: int
    objects: int
    tensors: int
    hooks: int
    values: int
    memory: float


def count_alive(iteration: int) -> Alive:
    """Count what is alive in this process after an iteration."""
    gc.collect()
    objects = gc.get_objects()

    def of_type(kind: type) -> list:
        # Not isinstance: proxies would answer it, and abstract classes would keep each type.
        return [found for found in objects if kind in type(found).__mro__]

    hooks = sum(
        len(value)
        for module in of_type(nn.Module)
        for name, value in vars(module).items()
        if name.endswith('_hooks')
    )
    values = sum(tap.recorded for tap in of_type(BaseTap))
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    tensors = len(of_type(Tensor))
    return Alive(iteration, len(objects), tensors, hooks, values, pages * PAGE / 2**20)


@HOOKS.register_module(force=True)
class GrowthHook(Hook):
    """Count what is alive every ``interval`` iterations and time every step.

    A step is measured in CPU time, and beside some of them a forward and backward of a copy of the
    student alone: another process slows down both.

    Args:
        interval (int): Iterations between two counts.
    """

    priority = 'LOWEST'

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.alive: list[Alive] = []
        self.steps: list[float] = []
        self.yardsticks: list[float] = []

    @classmethod
    def of(cls, runner: Runner) -> GrowthHook:
        """Return the hook of a runner."""
        return next(hook for hook in runner.hooks if isinstance(hook, cls))

    def before_train(self, runner: Runner) -> None:
        self._alone = copy.deepcopy(runner.model.student)
        self._images = torch.zeros(4, 3, 32, 32)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        if runner.iter % YARDSTICK_INTERVAL == 0:
            self.yardsticks.append(_seconds(self._run_alone))
        self._start = time.process_time()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        self.steps.append(time.process_time() - self._start)
        if self.every_n_train_iters(runner, self.interval):
            self.alive.append(count_alive(runner.iter + 1))

    def after_train(self, runner: Runner) -> None:
        del self._alone

    def slowness(self, start: int, stop: int) -> float:
        """Return the median step of some iterations in steps of the student alone."""
        alone = self.yardsticks[start // YARDSTICK_INTERVAL : stop // YARDSTICK_INTERVAL]
        return median(self.steps[start:stop]) / median(alone)

    def _run_alone(self) -> None:
        features = self._alone.extract_feat(self._images)
        sum(feature.sum() for feature in features).backward()


def _seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start
