"""Peak memory of a row: what it needs while it runs above what is held between its runs."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch
from step_models import quiet
from step_pairs import Job
from step_rows import Row
from step_runs import Runs
from step_timing import WARMUP

# The kernel's own peak: getrusage's also counts what the parent held when the process began.
STATUS, RESET_PEAK = Path('/proc/self/status'), Path('/proc/self/clear_refs')
KIB, MIB = 2**10, 2**20


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
            return pool.submit(_run_row, job, row).result()
        except BrokenProcessPool:
            return None


def _run_row(job: Job, row: Row) -> float | None:
    if job.threads:
        torch.set_num_threads(job.threads)
    with quiet():
        return peak_of(Runs(job).build(row), job.device)


def peak_of(run: Callable[[], object], device: str) -> float | None:
    """Measure the peak memory of a run in this process, after runs that warm up.

    Those compile, load libraries and allocate what is kept, such as the optimizer's state.

    Args:
        run (Callable[[], object]): What is measured.
        device (str): ``'cpu'``, whose peak is that of the process, or ``'cuda'``.

    Returns:
        float | None: MiB above what was held before; None on a CPU that Linux does not run on.
    """
    for _ in range(WARMUP):
        run()
    gc.collect()
    if device == 'cuda':
        return _cuda_peak(run)
    if not RESET_PEAK.exists():
        return None
    _return_freed_memory()
    RESET_PEAK.write_text('5')
    before = _read_status('VmRSS')
    run()
    return (_read_status('VmHWM') - before) / MIB


def _cuda_peak(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def _return_freed_memory() -> None:
    """Give the system what the C library keeps of freed memory, where it is glibc."""
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)


def _read_status(key: str) -> int:
    """Read a size in bytes of this process."""
    return int(re.search(rf'^{key}:\s+(\d+) kB', STATUS.read_text(), re.MULTILINE)[1]) * KIB
