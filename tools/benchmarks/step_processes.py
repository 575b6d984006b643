"""Time training steps in several processes that average their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from step_models import build_optimizer, quiet
from step_pairs import Job
from step_rows import Kind, Row
from step_runs import Runs
from step_timing import Timing, measure


def measure_processes(job: Job, rows: Sequence[Row], processes: int) -> dict[str, list[Timing]]:
    """Time steps in processes that are joined by gloo, or by NCCL with a GPU each.

    Args:
        job (Job): What is measured; each process has its own batch of that size.
        rows (Sequence[Row]): Steps of the student or the distiller.
        processes (int): Number of processes.

    Returns:
        dict[str, list[Timing]]: Timings of the first process by the row's name.
    """
    results = mp.get_context('spawn').SimpleQueue()
    with TemporaryDirectory() as folder:
        store = Path(folder, 'store').as_uri()
        mp.spawn(_work, (processes, store, job, rows, results), nprocs=processes)
    return results.get()


def _work(
    rank: int, processes: int, store: str, job: Job, rows: Sequence[Row], results: SimpleQueue
) -> None:
    if job.threads:
        torch.set_num_threads(job.threads)
    if job.device == 'cuda':
        torch.cuda.set_device(rank)
    backend = 'nccl' if job.device == 'cuda' else 'gloo'
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=processes)
    try:
        with quiet():
            runs = Runs(job)
            steps = {row.name: _build_step(runs, row, job.device) for row in rows}
            timings = measure(steps, job.rounds)
    finally:
        dist.destroy_process_group()
    if rank == 0:
        results.put(timings)


def _build_step(runs: Runs, row: Row, device: str) -> Callable[[], object]:
    model = runs.student if row.kind is Kind.STUDENT else runs.distiller(row.options, row.amp)
    # As MMEngine's Runner wraps it.
    wrapped = MMDistributedDataParallel(
        model,
        device_ids=[torch.cuda.current_device()] if device == 'cuda' else None,
        broadcast_buffers=False,
    )
    return partial(wrapped.train_step, runs.batch, build_optimizer(model, row.amp))
