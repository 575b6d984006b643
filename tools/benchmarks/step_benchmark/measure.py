"""Measure rows: wall and CPU time in turn, peak memory, and steps in several processes."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from step_benchmark.models import Runs, build_optimizer, is_detector, quiet
from step_benchmark.report import tabulate
from step_benchmark.rows import Job, Kind, Row

# Rounds that do not count: in the first one models compile.
WARMUP = 2
# What torch.compile may compile of the same code, here for many models.
GRAPHS = 64
# The kernel's own peak: getrusage's also counts what the parent held when the process began.
STATUS, RESET_PEAK = Path('/proc/self/status'), Path('/proc/self/clear_refs')
MIB = 2**20
CPU_INFO = Path('/proc/cpuinfo')
BF16_FLAGS = {'avx512_bf16', 'amx_bf16', 'bf16'}
# What decides the speed of the operations here, by the flag that tells of it.
NOTABLE = {
    'avx2': 'AVX2',
    'avx512f': 'AVX-512',
    'avx512_bf16': 'AVX-512 bf16',
    'amx_bf16': 'AMX bf16',
    'asimd': 'NEON',
    'sve': 'SVE',
    'bf16': 'bf16',
}


def measure_job(job: Job, rows: Sequence[Row], memory: bool = False) -> dict[str, Any]:
    """Measure the rows of a table in turn, in this process.

    Args:
        job (Job): What is measured.
        rows (Sequence[Row]): The rows, those included that this pair or machine has not.
        memory (bool): Whether to measure their peak memory too, each in a process of its own.
            Defaults to False.

    Returns:
        dict: The table.
    """
    runs = Runs(job)
    if not is_detector(runs.student):
        rows = [row for row in rows if row.kind is not Kind.FULL_LOSS]
    timed = measurable(rows, job.device)
    calls = {row.name: runs.build(row) for row in timed}
    # Forget what an earlier table compiled, and let each row compile graphs of its own.
    torch._dynamo.reset()
    with torch._dynamo.config.patch(cache_size_limit=GRAPHS):
        timings = measure(calls, job.rounds)
    peaks = {}
    if memory:
        del runs, calls
        gc.collect()  # The processes need what they held.
        peaks = {row.name: measure_peak(job, row) for row in timed}
    return tabulate(job, rows, timings, peaks)


def measurable(rows: Sequence[Row], device: str) -> list[Row]:
    """Keep the rows that run something, those in bf16 only where that is no emulation."""
    bf16 = device == 'cuda' or not BF16_FLAGS.isdisjoint(cpu_flags())
    return [row for row in rows if row.kind is not Kind.SUM and (bf16 or not row.bf16)]


def cpu_flags() -> set[str]:
    """Return the flags of the CPU as Linux names them, on x86 and on Arm; else none."""
    text = CPU_INFO.read_text() if CPU_INFO.is_file() else ''
    found = re.search(r'^(?:flags|Features)\s*:(.*)', text, re.MULTILINE)
    return set(found[1].split()) if found else set()


def describe_machine(device: str) -> dict[str, str | int]:
    """Describe processor and software so that another machine can be compared with this one."""
    flags = cpu_flags()
    names = [platform.machine().replace('_', '-'), *(n for f, n in NOTABLE.items() if f in flags)]
    machine = dict(
        processor=', '.join(names),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
    return machine | dict(gpu=torch.cuda.get_device_name()) if device == 'cuda' else machine


def measure(
    calls: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Run everything in turn, round by round, so that a disturbance hits all alike.

    Args:
        calls (Mapping[str, Callable]): What is timed, by name.
        rounds (int): Number of rounds that count, after :data:`WARMUP` that do not.

    Returns:
        dict[str, list[tuple[float, float]]]: Seconds of wall time, and of CPU time of all threads
        of the process, which other processes disturb less, of each round by name.
    """
    timings = {name: [] for name in calls}
    gc.collect()
    gc.freeze()  # A collection looks only at what comes next: models take it a while.
    try:
        for index in range(-WARMUP, rounds):
            progress('warm-up' if index < 0 else f'round {index + 1} of {rounds}')
            for name, call in calls.items():
                timings[name].append(_time(call))
    finally:
        gc.unfreeze()
    return {name: taken[WARMUP:] for name, taken in timings.items()}


def progress(text: str) -> None:
    """Say on standard error what is measured now."""
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(f'  {text}', file=sys.stderr, flush=True)


def _time(call: Callable[[], object]) -> tuple[float, float]:
    gc.collect()  # Before, not while something is timed that did not leave the garbage behind.
    gc.disable()
    try:
        _synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        _synchronize()
        return time.perf_counter() - wall, time.process_time() - cpu
    finally:
        gc.enable()


def _synchronize() -> None:
    """Wait until the GPU is idle, and for the other processes of a distributed run."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    if dist.is_initialized():
        dist.barrier()


def measure_peak(job: Job, row: Row) -> float | None:
    """Measure a row's peak memory in a fresh process, which builds only what the row needs.

    Args:
        job (Job): What is measured.
        row (Row): The row, not a sum.

    Returns:
        float | None: MiB, or None where it cannot be told: on a CPU that Linux does not run on,
        or if the process was killed, most likely for want of memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        try:
            return pool.submit(peak_of_row, job, row).result()
        except BrokenProcessPool:
            return None


def peak_of_row(job: Job, row: Row) -> float | None:
    """Measure a row's peak memory in this process, see :func:`measure_peak`."""
    if job.threads:
        torch.set_num_threads(job.threads)
    with quiet():
        return peak_of(Runs(job).build(row), job.device)


def peak_of(call: Callable[[], object], device: str) -> float | None:
    """Measure the peak memory of a call in this process, after calls that warm up.

    Those compile, load libraries and allocate what is kept, such as the optimizer's state.

    Args:
        call (Callable[[], object]): What is measured.
        device (str): ``'cpu'``, whose peak is that of the process, or ``'cuda'``.

    Returns:
        float | None: MiB above what was held before; None on a CPU that Linux does not run on.
    """
    for _ in range(WARMUP):
        call()
    gc.collect()
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    if not RESET_PEAK.exists():
        return None
    ctypes.CDLL(None).malloc_trim(0)  # What glibc keeps of freed memory.
    RESET_PEAK.write_text('5')
    before = _read_status('VmRSS')
    call()
    return (_read_status('VmHWM') - before) / MIB


def _read_status(key: str) -> int:
    """Read a size in bytes of this process."""
    return int(re.search(rf'^{key}:\s+(\d+) kB', STATUS.read_text(), re.MULTILINE)[1]) * 1024


def measure_processes(job: Job, rows: Sequence[Row], processes: int) -> dict[str, Any]:
    """Measure steps in processes that are joined by gloo, or by NCCL with a GPU each.

    Args:
        job (Job): What is measured; each process has its own batch of that size.
        rows (Sequence[Row]): Steps of the student or the distiller.
        processes (int): Number of processes.

    Returns:
        dict: The table, of the first process.
    """
    timed = measurable(rows, job.device)
    results = mp.get_context('spawn').SimpleQueue()
    with TemporaryDirectory() as folder:
        store = Path(folder, 'store').as_uri()
        mp.spawn(time_steps, (processes, store, job, timed, results), nprocs=processes)
    return tabulate(job, rows, results.get(), {}, processes)


def time_steps(
    rank: int, processes: int, store: str, job: Job, rows: Sequence[Row], results: SimpleQueue
) -> None:
    """Time steps as one process of several.

    Args:
        rank (int): Which one it is.
        processes (int): How many there are.
        store (str): URL of a file by which they find each other.
        job (Job): What is measured.
        rows (Sequence[Row]): Steps of the student or the distiller.
        results (SimpleQueue): Gets the timings by the row's name from the first process.
    """
    if job.threads:
        torch.set_num_threads(job.threads)
    if job.device == 'cuda':
        torch.cuda.set_device(rank)
    backend = 'nccl' if job.device == 'cuda' else 'gloo'
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=processes)
    try:
        with quiet():
            runs = Runs(job)
            steps = {row.name: _distributed_step(runs, row, job.device) for row in rows}
            timings = measure(steps, job.rounds)
    finally:
        dist.destroy_process_group()
    if rank == 0:
        results.put(timings)


def _distributed_step(runs: Runs, row: Row, device: str) -> Callable[[], object]:
    model = runs.model(row)
    # As MMEngine's Runner wraps it.
    wrapped = MMDistributedDataParallel(
        model,
        device_ids=[torch.cuda.current_device()] if device == 'cuda' else None,
        broadcast_buffers=False,
    )
    return partial(wrapped.train_step, runs.batch, build_optimizer(model, row.amp))
