"""Time several things in turn, round by round."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

WARMUP = 2  # Rounds; in the first one recorders learn what they must clone, and models compile.


@dataclass(frozen=True)
class Timing:
    """Seconds that something took.

    Args:
        wall (float): Wall time.
        cpu (float): CPU time of all threads of the process, which other processes disturb less.
    """

    wall: float
    cpu: float


def measure(
    runs: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = WARMUP,
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Timing]]:
    """Run everything in turn, round by round, so that a disturbance hits all alike.

    Args:
        runs (Mapping[str, Callable]): What is timed, by name.
        rounds (int): Number of rounds that count.
        warmup (int): Rounds before them that do not. Defaults to 2.
        report (Callable[[str], None]): Is told which round runs. Defaults to nothing.

    Returns:
        dict[str, list[Timing]]: A timing of each round that counts, by name.
    """
    timings = {name: [] for name in runs}
    with _frozen_garbage():
        for index in range(warmup + rounds):
            report(_name_round(index - warmup, rounds))
            for name, run in runs.items():
                with _no_garbage_collection():
                    timings[name].append(_time(run))
    return {name: taken[warmup:] for name, taken in timings.items()}


def _name_round(index: int, rounds: int) -> str:
    return 'warm-up' if index < 0 else f'round {index + 1} of {rounds}'


@contextmanager
def _frozen_garbage() -> Iterator[None]:
    """Let a collection look only at what comes next: models and modules take it a while."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage before, not while something is timed that did not leave it behind."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _time(run: Callable[[], object]) -> Timing:
    _synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    _synchronize()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def _synchronize() -> None:
    """Wait until the GPU is idle, and for the other processes of a distributed run."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    if dist.is_initialized():
        dist.barrier()
