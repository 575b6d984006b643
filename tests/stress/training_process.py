"""Run tools/train.py in processes that start at once: what it imports is imported before them."""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import mmpretrain.datasets
import mmpretrain.engine
import mmpretrain.evaluation
import mmpretrain.models
import mmpretrain.visualization  # noqa: F401
import sklearn.datasets  # noqa: F401

import reviewkd_mm.cli
import reviewkd_mm.datasets
import reviewkd_mm.engine.hooks
import reviewkd_mm.models  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]


class Training:
    """A training that runs in a process of its own, and in a process group with its workers.

    Args:
        arguments (Sequence[str]): What follows ``tools/train.py`` on the command line.
        log (Path): Where its output goes.
        largest_file (int, optional): The size that no file may exceed. Defaults to None.
    """

    _context = multiprocessing.get_context('forkserver')
    _context.set_forkserver_preload([__name__])

    def __init__(
        self, arguments: Sequence[str], log: Path, largest_file: int | None = None
    ) -> None:
        ready = self._context.Event()
        target: tuple = (list(arguments), log, largest_file, ready)
        self.process: BaseProcess = self._context.Process(target=_train, args=target)
        self.process.start()
        assert ready.wait(600)
        self.started = time.monotonic()

    def kill_when(self, moment: Callable[[], bool]) -> bool:
        """Wait for a moment and kill the process group; tell whether it came before the end."""
        while not moment():
            if self.process.exitcode is not None:
                return False
            time.sleep(0.0005)
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            return False
        self.process.join()
        return self.process.exitcode == -9

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        self.process.join()
        return self.process.exitcode


def _train(arguments: list[str], log: Path, largest_file: int | None, ready: Event) -> None:
    os.setpgid(0, 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if largest_file is not None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, most))
    os.chdir(ROOT)
    sys.argv = ['tools/train.py', *arguments]
    ready.set()
    runpy.run_path('tools/train.py', run_name='__main__')
