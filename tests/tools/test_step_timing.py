"""How the benchmark takes time."""

from __future__ import annotations

import gc

from tests.tools.step_benchmark import load

timing = load('step_timing')


def test_all_run_in_turn_and_the_warm_up_does_not_count(monkeypatch):
    calls, durations = [], {'a': iter([50, 9, 1, 2]), 'b': iter([60, 3, 5, 100])}
    runs = {name: lambda name=name: calls.append(name) for name in 'ab'}

    def fake_time(run):
        run()
        seconds = float(next(durations[calls[-1]]))
        return timing.Timing(seconds, 2 * seconds)

    monkeypatch.setattr(timing, '_time', fake_time)
    reported = []
    timings = timing.measure(runs, rounds=3, warmup=1, report=reported.append)

    assert calls == ['a', 'b'] * 4
    assert [t.wall for t in timings['a']] == [9, 1, 2]
    assert [t.cpu for t in timings['b']] == [6, 10, 200]
    assert reported == ['warm-up', 'round 1 of 3', 'round 2 of 3', 'round 3 of 3']


def test_wall_and_cpu_time_are_those_of_the_run(monkeypatch):
    monkeypatch.setattr(timing.time, 'perf_counter', iter([10.0, 13.5]).__next__)
    monkeypatch.setattr(timing.time, 'process_time', iter([1.0, 1.5]).__next__)
    assert timing._time(lambda: None) == timing.Timing(3.5, 0.5)


def test_garbage_is_collected_before_each_run_and_not_while_it_is_timed(monkeypatch):
    events, frozen = [], gc.get_freeze_count()
    monkeypatch.setattr(timing.gc, 'collect', lambda: events.append('collected'))
    runs = {name: lambda: events.append(gc.isenabled()) for name in 'ab'}
    timing.measure(runs, rounds=1, warmup=0)
    assert events == ['collected', 'collected', False, 'collected', False]
    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen == 0


def test_a_gpu_and_the_other_processes_are_waited_for_before_and_after(monkeypatch):
    events = []
    monkeypatch.setattr(timing.torch.cuda, 'is_initialized', lambda: True)
    monkeypatch.setattr(timing.torch.cuda, 'synchronize', lambda: events.append('gpu'))
    monkeypatch.setattr(timing.dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(timing.dist, 'barrier', lambda: events.append('others'))
    timing._time(lambda: events.append('run'))
    assert events == ['gpu', 'others', 'run', 'gpu', 'others']
