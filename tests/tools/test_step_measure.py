"""How the benchmark measures time and memory, and in several processes."""

from __future__ import annotations

import gc
import os
import platform
import time
from queue import SimpleQueue

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from torch.nn.modules.module import register_module_forward_hook

from tests.tools.step_benchmark import load, write_classifiers

measure, rows = load('step_benchmark.measure'), load('step_benchmark.rows')
BY_NAME = {row.name: row for row in rows.ROWS}
STEPS = [BY_NAME[rows.STUDENT], BY_NAME[rows.STEP_DEFAULTS]]
linux = pytest.mark.skipif(not measure.RESET_PEAK.exists(), reason='reads the peak of Linux')


def test_all_run_in_turn_and_the_warm_up_does_not_count():
    called = []

    def sleep() -> None:
        called.append('sleep')
        time.sleep(0.03)

    def work() -> None:
        called.append('work')
        assert not gc.isenabled()
        end = time.process_time() + 0.03
        while time.process_time() < end:
            pass

    timings = measure.measure(dict(sleep=sleep, work=work), rounds=2)

    assert called == ['sleep', 'work'] * (measure.WARMUP + 2)
    assert [len(taken) for taken in timings.values()] == [2, 2]
    assert all(wall >= 0.03 > cpu for wall, cpu in timings['sleep'])
    assert all(wall >= 0.03 <= cpu for wall, cpu in timings['work'])
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@linux
def test_the_peak_is_what_a_run_needs_for_a_while():
    kept, calls = [], []

    def run() -> None:
        calls.append(None)
        if len(calls) == 1:
            kept.append(torch.ones(2**23))  # 32 MiB that stay do not count,
            torch.ones(2**26)  # nor does what only a warm-up needs.
        torch.ones(2**24)

    assert measure.peak_of(run, 'cpu') == pytest.approx(64, abs=4)


@linux
def test_memory_that_the_c_library_kept_of_a_warm_up_counts_again():
    kept = []

    def run() -> None:
        blocks = [b'.' * 100_000 for _ in range(400)]  # Small enough to be kept for later,
        kept.append(blocks[-1])  # which this one behind them keeps from being given back.

    assert measure.peak_of(run, 'cpu') == pytest.approx(38, abs=4)


def test_on_another_system_there_is_no_peak(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, 'RESET_PEAK', tmp_path / 'missing')
    assert measure.peak_of(lambda: None, 'cpu') is None


@linux
def test_the_peak_of_a_row(tmp_path):
    held = torch.ones(2**26)  # 256 MiB that are there before do not count.
    job = rows.Job('classifiers', write_classifiers(tmp_path), 64, 16)
    peak = measure.peak_of_row(job, BY_NAME[rows.TEXTBOOK])
    del held
    # One map of the first stage has 16 x 8 x 64 x 64 values of 4 bytes, 2 MiB.
    assert 10 < peak < 200


def killed(job: object, row: object) -> None:
    os.abort()


@linux
@pytest.mark.stress  # A fresh process imports everything anew.
def test_the_peak_of_a_row_in_a_process_of_its_own(tmp_path, monkeypatch):
    job = rows.Job('classifiers', write_classifiers(tmp_path), 64, 16)
    assert 10 < measure.measure_peak(job, BY_NAME[rows.TEXTBOOK]) < 200
    monkeypatch.setattr(measure, 'peak_of_row', killed)
    assert measure.measure_peak(job, BY_NAME[rows.TEXTBOOK]) is None


@pytest.mark.stress  # So do two of them.
def test_two_processes(tmp_path):
    job = rows.Job('classifiers', write_classifiers(tmp_path), 32, 4, threads=1, rounds=2)
    table = measure.measure_processes(job, STEPS, 2)
    assert table['processes'] == 2
    student, step = table['rows']
    assert student['wall_s']['minimum'] > 0
    assert step['x_student'] == step['wall_s']['median'] / student['wall_s']['median']


def test_a_process_trains_as_the_runner_does_with_several(tmp_path):
    job = rows.Job('classifiers', write_classifiers(tmp_path), 32, 4, rounds=1)
    results, seen = SimpleQueue(), []

    def look(module: torch.nn.Module, *args: object) -> None:
        if isinstance(module, MMDistributedDataParallel):
            seen.append((hasattr(module.module, 'transfers'), dist.get_backend()))

    hook = register_module_forward_hook(look)
    try:
        measure.time_steps(0, 1, (tmp_path / 'store').as_uri(), job, STEPS, results)
    finally:
        hook.remove()

    assert seen == [(False, 'gloo'), (True, 'gloo')] * (measure.WARMUP + 1)
    assert {name: len(taken) for name, taken in results.get().items()} == {
        rows.STUDENT: 1,
        rows.STEP_DEFAULTS: 1,
    }
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ('line', 'described', 'bf16'),
    [
        ('flags\t\t: fpu avx2 avx512f amx_bf16 hypervisor', 'AVX2, AVX-512, AMX bf16', True),
        ('flags\t\t: fpu avx2', 'AVX2', False),
        ('Features\t: fp asimd bf16', 'NEON, bf16', True),
        ('', '', False),
    ],
)
def test_the_processor_is_told_by_its_flags(monkeypatch, tmp_path, line, described, bf16):
    file = tmp_path / 'cpuinfo'
    file.write_text(f'processor\t: 0\nmodel name\t: some CPU\n{line}\nbogomips\t: 1\n')
    monkeypatch.setattr(measure, 'CPU_INFO', file)
    monkeypatch.setattr(platform, 'machine', lambda: 'x86_64')

    processor = measure.describe_machine('cpu')['processor']
    assert processor == ', '.join(['x86-64', *([described] if described else [])])
    assert any(row.bf16 for row in measure.measurable(rows.ROWS, 'cpu')) is bf16
    assert any(row.bf16 for row in measure.measurable(rows.ROWS, 'cuda'))
