"""The benchmark of a distillation step: what it is asked for, and what it prints and writes."""

from __future__ import annotations

import json
import logging
import re
from types import SimpleNamespace

import pytest
import torch

from tests.tools.step_benchmark import load, write_detectors

tool, rows, timing = load('distill_step'), load('step_rows'), load('step_timing')
PAIRS = load('step_pairs').PAIRS


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r'\d+\.\d+', line)]


@pytest.fixture
def measured(monkeypatch) -> SimpleNamespace:
    """Let each row take a second; keep what was asked for."""
    seen = SimpleNamespace(jobs=[], calls=[], peaks=[], processes=[])
    monkeypatch.setattr(tool, 'has_bf16', lambda device: True)

    class FakeRuns:
        is_detector = False

        def __init__(self, job: object) -> None:
            seen.jobs.append(job)

        def build(self, row: object) -> str:
            return row.name

        def fell_back(self, row: object) -> bool:
            return row.name == 'step: both compiled'

    def measure(calls: dict, rounds: int, report: object) -> dict:
        seen.calls.append((list(calls), rounds))
        return {name: [timing.Timing(1.0, 1.0)] for name in calls}

    def measure_peak(job: object, row: object) -> float:
        seen.peaks.append(row.name)
        return 7.0

    def measure_processes(job: object, timed: list, processes: int) -> dict:
        seen.processes.append((job, [row.name for row in timed], processes))
        return {row.name: [timing.Timing(1.0, 1.0)] for row in timed}

    monkeypatch.setattr(tool, 'Runs', FakeRuns)
    monkeypatch.setattr(tool, 'measure', measure)
    monkeypatch.setattr(tool, 'measure_peak', measure_peak)
    monkeypatch.setattr(tool, 'measure_processes', measure_processes)
    monkeypatch.setattr(tool, 'OUT', None)
    return seen


def run(tmp_path, *options: str) -> list[dict]:
    """Run the tool and return the tables that it wrote."""
    file = tmp_path / 'out.json'
    tool.main([*options, '--json', str(file)])
    return json.loads(file.read_text())['tables']


def test_a_table_of_detectors(tmp_path, capsys):
    threads = torch.get_num_threads()
    markdown = tmp_path / 'table.md'
    options = ['--image-size', '96', '--rounds', '1', '--markdown', str(markdown)]
    patterns = [rows.STUDENT, rows.TEACHER, rows.FULL_LOSS, rows.TEXTBOOK, 'ABF + HCL']
    patterns += ['student + *', 'sum*', 'step: [ad]*']
    config = write_detectors(tmp_path)
    (table,) = run(tmp_path, '--config', config, *options, '--rows', *patterns)

    measured = {row['name']: row for row in table['rows']}
    assert list(measured) == [*patterns[:5], rows.SUM, rows.SUM_FULL_LOSS, 'step: all off',
                              'step: defaults']  # fmt: skip
    wall = {name: row['wall_s']['median'] for name, row in measured.items()}
    assert all(seconds > 0 for seconds in wall.values())
    parts = wall[rows.STUDENT] + wall[rows.TEACHER] + wall[rows.TEXTBOOK]
    assert wall[rows.SUM] == pytest.approx(parts)
    step = measured[rows.STEP_DEFAULTS]
    assert step['x_student'] == pytest.approx(wall[rows.STEP_DEFAULTS] / wall[rows.STUDENT])
    assert step['x_yardstick'] == pytest.approx(wall[rows.STEP_DEFAULTS] / parts)

    output = capsys.readouterr().out
    (line,) = [line for line in output.splitlines() if '│ step: defaults ' in line]
    assert numbers(line)[:2] == [
        pytest.approx(wall[rows.STEP_DEFAULTS], abs=1e-4),
        pytest.approx(step['x_student'], abs=1e-3),
    ]
    for text in (output, markdown.read_text()):
        assert 'detectors: 2 images of 96 px' in text
        assert 'medians of 1 rounds' in text
    assert torch.get_num_threads() == threads
    assert logging.root.manager.disable == logging.NOTSET


def test_by_default_every_pair_is_measured_at_its_own_sizes(measured, tmp_path):
    tables = run(tmp_path)
    assert [job.pair for job in measured.jobs] == [table['pair'] for table in tables] == [*PAIRS]
    assert [(job.image_size, job.batch_size) for job in measured.jobs] == [
        (32, 64),
        (32, 64),
        (32, 64),
        (224, 8),
        (416, 2),
        (416, 2),
    ]
    names, rounds = measured.calls[0]
    assert rounds == 5
    applicable = rows.applicable(rows.ROWS, is_detector=False, device='cpu')
    assert names == [row.name for row in applicable if row.kind is not rows.Kind.SUM]


def test_a_table_for_each_size(measured, tmp_path):
    sizes = ['--batch-sizes', '16', '32', '--image-sizes', '32', '64']
    tables = run(tmp_path, '--pairs', 'wrn40-2_wrn16-2', '--rounds', '3', *sizes)
    found = [(t['pair'], t['image_size'], t['batch_size']) for t in tables]
    pair = 'wrn40-2_wrn16-2'
    assert found == [(pair, 32, 16), (pair, 32, 32), (pair, 64, 16), (pair, 64, 32)]
    assert {rounds for _, rounds in measured.calls} == {3}


def test_rows_that_compile_can_be_left_out(measured, tmp_path):
    (table,) = run(tmp_path, '--pairs', 'resnet34_resnet18', '--no-compile', '--rows', 'step:*')
    assert [row['name'] for row in table['rows']] == [
        'step: all off',
        'step: defaults',
        'step: channels_last off',
        'step: teacher_fold_bn off',
        'step: teacher in bf16',
    ]


def test_without_bf16_instructions_its_rows_are_not_measured(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(tool, 'has_bf16', lambda device: False)
    (table,) = run(tmp_path, '--pairs', 'resnet34_resnet18', '--no-compile', '--memory')
    missing = [row['name'] for row in table['rows'] if row['wall_s'] is None]
    assert missing == [
        'ABF + HCL, bf16',
        'step: teacher in bf16',
        'amp: student step',
        'amp: defaults',
    ]
    assert {row['note'] for row in table['rows'] if row['name'] in missing} == {'n/a'}
    ((names, _),) = measured.calls
    assert not {*names, *measured.peaks} & {*missing}


def test_memory_is_measured_for_what_was_timed(measured, tmp_path):
    options = ['--pairs', 'resnet34_resnet18', '--rows', 'student*', 'teacher*', 'textbook*']
    (table,) = run(tmp_path, *options, '--memory')
    assert measured.peaks == [rows.STUDENT, rows.TEACHER, rows.TEXTBOOK]
    peaks = {row['name']: row['peak_memory_mib'] for row in table['rows']}
    assert peaks == dict.fromkeys(measured.peaks, 7.0) | {rows.SUM: None}
    measured.peaks.clear()
    run(tmp_path, *options)
    assert not measured.peaks


def test_a_compilation_that_failed_is_noted(measured, tmp_path):
    (table,) = run(tmp_path, '--pairs', 'resnet34_resnet18', '--rows', 'step: [bd]*')
    notes = {row['name']: row['note'] for row in table['rows']}
    assert notes == {'step: defaults': '', 'step: both compiled': 'fell back to eager'}


def test_processes(measured, tmp_path):
    options = ['--pairs', 'resnet34_resnet18', '--processes', '1', '2', '--threads', '1']
    threads = torch.get_num_threads()
    try:
        tables = run(tmp_path, *options)
    finally:
        torch.set_num_threads(threads)
    assert [table['processes'] for table in tables] == [1, 2]
    assert [row['name'] for row in tables[1]['rows']] == [rows.STUDENT, rows.STEP_DEFAULTS]
    assert tables[1]['rows'][1]['x_student'] == 1
    assert [processes for _, _, processes in measured.processes] == [1, 2]
    assert {job.threads for job, _, _ in measured.processes} == {1}
    assert not measured.calls


def test_tables_are_written_as_they_are_measured(measured, monkeypatch, tmp_path):
    measure, jobs = tool.measure_job, []

    def fail_at_the_second(job, *args):
        jobs.append(job)
        if len(jobs) == 2:
            raise KeyboardInterrupt
        return measure(job, *args)

    monkeypatch.setattr(tool, 'measure_job', fail_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    tables = json.loads((tmp_path / 'out.json').read_text())['tables']
    assert [table['pair'] for table in tables] == [jobs[0].pair]


def test_every_row_may_compile_graphs_of_its_own(measured, monkeypatch, tmp_path):
    limits = []
    monkeypatch.setattr(torch._dynamo, 'reset', lambda: limits.append('reset'))
    name = tool.name_of_recompile_limit()
    before = getattr(torch._dynamo.config, name)
    measure = tool.measure

    def look(*args, **kwargs):
        limits.append(getattr(torch._dynamo.config, name))
        return measure(*args, **kwargs)

    monkeypatch.setattr(tool, 'measure', look)
    run(tmp_path, '--pairs', 'resnet34_resnet18', 'wrn40-2_wrn16-2', '--rows', 'step: *compiled')
    assert limits == ['reset', tool.GRAPHS] * 2
    assert len(rows.ROWS) < tool.GRAPHS
    assert getattr(torch._dynamo.config, name) == before
    limits.clear()
    run(tmp_path, '--pairs', 'resnet34_resnet18', '--no-compile')
    assert limits == [before]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--rounds=0'], 'expected a positive integer'),
        (['--rounds=-1'], 'expected a positive integer'),
        (['--threads=2.5'], 'expected a positive integer'),
        (['--batch-sizes', '2', 'many'], 'expected a positive integer'),
        (['--rows', 'bogus'], "--rows 'bogus': expected a pattern of 'student step', "),
        (['--rows', 'textbook*', '--processes', '2'], "expected a pattern of 'student step', "),
        (['--pairs', 'bogus'], 'resnet56_resnet20'),
        (['--pairs', 'wrn40-2_wrn16-2', '--config', 'a.py'], 'not allowed with argument'),
        (['--processes', '2', '--memory'], '--memory: expected without --processes'),
    ],
)
def test_options_that_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        tool.main(options)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('gpus', 'options', 'message'),
    [
        (0, [], '--device cuda: torch finds no GPU'),
        (1, ['--processes', '1', '2'], '--processes: there are 1 GPUs, one for each'),
    ],
)
def test_gpus_that_are_missing(gpus, options, message, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    with pytest.raises(SystemExit):
        tool.main(['--device', 'cuda', *options])
    assert message in capsys.readouterr().err


def test_a_config_without_a_distiller_is_refused(tmp_path):
    file = tmp_path / 'alone.py'
    file.write_text("model = dict(type='mmdet.RetinaNet')\n")
    with pytest.raises(SystemExit, match=r'error: --config .*alone.py: its model has no student'):
        tool.main(['--config', str(file)])
