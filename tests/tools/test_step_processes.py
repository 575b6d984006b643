"""The benchmark in several processes."""

from __future__ import annotations

from queue import SimpleQueue

import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel

from tests.tools.step_benchmark import load, write_classifiers

processes, rows = load('step_processes'), load('step_rows')
Job = load('step_pairs').Job
ROWS = rows.select_rows([rows.STUDENT, rows.STEP_DEFAULTS])


def test_two_processes(tmp_path):
    job = Job('classifiers', write_classifiers(tmp_path), 32, 4, threads=1, rounds=2)
    timings = processes.measure_processes(job, ROWS, 2)
    assert list(timings) == [rows.STUDENT, rows.STEP_DEFAULTS]
    assert all(len(taken) == 2 for taken in timings.values())
    assert all(t.wall > 0 and t.cpu > 0 for taken in timings.values() for t in taken)


def test_models_are_wrapped_as_in_training_and_gradients_averaged(tmp_path, monkeypatch):
    seen = []

    def spy(steps, rounds):
        for step in steps.values():
            wrapped = step.func.__self__
            losses = step()
            seen.append((wrapped, dist.get_world_size(), dist.get_backend(), losses))
        return {name: [] for name in steps}

    monkeypatch.setattr(processes, 'measure', spy)
    job = Job('classifiers', write_classifiers(tmp_path), 32, 4)
    results = SimpleQueue()
    processes._work(0, 1, (tmp_path / 'store').as_uri(), job, ROWS, results)

    assert list(results.get()) == [row.name for row in ROWS]
    assert not dist.is_initialized()
    student, distiller = seen
    for wrapped, world_size, backend, _ in seen:
        assert type(wrapped) is MMDistributedDataParallel
        assert not wrapped.broadcast_buffers
        assert (world_size, backend) == (1, 'gloo')
    assert hasattr(distiller[0].module, 'transfers')
    assert not hasattr(student[0].module, 'transfers')
    assert 'loss_review' in distiller[3]
