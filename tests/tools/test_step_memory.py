"""Peak memory of a row."""

from __future__ import annotations

import pickle
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.context import SpawnContext

import pytest
import torch

from tests.tools.step_benchmark import load, write_classifiers

memory, rows = load('step_memory'), load('step_rows')
Job = load('step_pairs').Job
ROW = next(row for row in rows.ROWS if row.name == rows.TEXTBOOK)
linux = pytest.mark.skipif(not memory.RESET_PEAK.exists(), reason='reads the peak of Linux')


@linux
def test_the_peak_is_what_a_run_needs_for_a_while():
    kept, calls = [], []

    def run() -> None:
        calls.append(None)
        if len(calls) == 1:
            kept.append(torch.ones(2**23))  # 32 MiB that stay do not count,
            torch.ones(2**26)  # nor does what only a warm-up needs.
        torch.ones(2**24)

    assert memory.peak_of(run, 'cpu') == pytest.approx(64, abs=4)
    assert len(calls) == memory.WARMUP + 1


class Pool:
    """Stands in for a process: what it is given and what it returns is pickled."""

    def __init__(self, processes: int, mp_context: SpawnContext) -> None:
        assert processes == 1  # and a new pool, so a new process, for each row
        assert mp_context.get_start_method() == 'spawn'

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *args: object) -> None: ...

    def submit(self, *call: object) -> Pool:
        function, *args = pickle.loads(pickle.dumps(call))
        self.result = partial(function, *args)
        return self


class KilledPool(Pool):
    def submit(self, *call: object) -> Pool:
        self.result = partial(self._raise, BrokenProcessPool())
        return self

    def _raise(self, error: Exception) -> None:
        raise error


@linux
def test_memory_that_the_c_library_kept_of_a_warm_up_counts_again():
    kept = []

    def run() -> None:
        blocks = [b'.' * 100_000 for _ in range(400)]  # Small enough to be kept for later,
        kept.append(blocks[-1])  # which this one behind them keeps from being given back.

    assert memory.peak_of(run, 'cpu') == pytest.approx(38, abs=4)


@linux
def test_the_peak_of_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, 'ProcessPoolExecutor', Pool)
    held = torch.ones(2**26)  # 256 MiB that are there before do not count.
    job = Job('classifiers', write_classifiers(tmp_path), 64, 16)
    peak = memory.measure_peak(job, ROW)
    del held
    # One map of the first stage has 16 x 8 x 64 x 64 values of 4 bytes, 2 MiB.
    assert 10 < peak < 200


def test_a_process_that_is_killed_has_no_peak(monkeypatch):
    monkeypatch.setattr(memory, 'ProcessPoolExecutor', KilledPool)
    assert memory.measure_peak(Job('a', 'a.py', 32, 4), ROW) is None


def test_on_another_system_there_is_no_peak(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, 'RESET_PEAK', tmp_path / 'missing')
    assert memory.peak_of(lambda: None, 'cpu') is None


def test_on_a_gpu_the_allocator_is_asked(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: events.append('synchronize'))
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda: events.append('reset'))
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda: 10 * 2**20)
    assert memory.peak_of(lambda: events.append('run'), 'cuda') == 7
    assert events == [*['run'] * memory.WARMUP, 'synchronize', 'reset', 'run', 'synchronize']
