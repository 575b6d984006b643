"""The benchmark of a distillation step: what it is asked for, and what it prints and writes."""

from __future__ import annotations

import json
import logging
import re

import pytest
import torch

from tests.tools.step_benchmark import load, write_classifiers, write_detectors

tool, rows, measure = (
    load(name) for name in ('distill_step', 'step_benchmark.rows', 'step_benchmark.measure')
)


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r'\d+\.\d+', line)]


def run(tmp_path, *options: str) -> list[dict]:
    """Run the tool and return the tables that it wrote."""
    file = tmp_path / 'out.json'
    tool.main([*options, '--json', str(file)])
    return json.loads(file.read_text())['tables']


def plan(*options: str) -> list:
    return list(tool.plan_jobs(tool.parse_args(options)))


def test_a_table_of_detectors(tmp_path, capsys):
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
    step = measured[rows.STEP_DEFAULTS]
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
    assert logging.root.manager.disable == logging.NOTSET


def test_memory_and_rows_that_a_machine_or_a_pair_has_not(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, 'CPU_INFO', tmp_path / 'missing')  # A CPU without bf16.
    monkeypatch.setattr(measure, 'measure_peak', lambda job, row: 7.0)
    options = ['--image-size', '32', '--rounds', '1', '--memory', '--rows', '*student step',
               'teacher*', 'text*', 'student +*']  # fmt: skip
    (table,) = run(tmp_path, '--config', write_classifiers(tmp_path), *options)

    found = {row['name']: row for row in table['rows']}
    timed = {name for name, row in found.items() if row['wall_s']}
    assert timed == {rows.STUDENT, rows.TEACHER, rows.TEXTBOOK, rows.SUM}
    assert set(found) - timed == {'amp: student step'}
    assert found['amp: student step']['note'] == 'n/a'
    peaks = {name for name, row in found.items() if row['peak_memory_mib'] == 7.0}
    assert peaks == timed - {rows.SUM}


def test_by_default_every_pair_is_measured_at_its_own_sizes():
    assert plan() == [*rows.PAIRS.values()]


def test_a_table_for_each_size():
    pair = 'wrn40-2_wrn16-2'
    sizes = ['--batch-sizes', '16', '32', '--image-sizes', '32', '64']
    jobs = plan('--pairs', pair, '--rounds', '3', '--threads', '1', *sizes)
    assert [(j.pair, j.image_size, j.batch_size) for j in jobs] == [
        (pair, 32, 16),
        (pair, 32, 32),
        (pair, 64, 16),
        (pair, 64, 32),
    ]
    assert {(job.rounds, job.threads) for job in jobs} == {(3, 1)}


def test_rows_are_chosen_by_patterns_in_the_order_of_the_table():
    assert tool.parse_args([]).rows == [*rows.ROWS]
    chosen = tool.parse_args(['--rows', 'amp: [ds]*', 'student*', 'textbook*']).rows
    assert [row.name for row in chosen] == [
        rows.STUDENT,
        rows.TEXTBOOK,
        rows.SUM,
        'amp: student step',
        'amp: defaults',
    ]
    eager = tool.parse_args(['--no-compile']).rows
    assert eager == [row for row in rows.ROWS if 'compiled' not in row.name and 'everything on'
                     not in row.name]  # fmt: skip


def test_processes(monkeypatch, tmp_path):
    def measure_processes(job, timed, processes):
        timings = {row.name: [(float(processes), 1.0)] for row in timed}
        return load('step_benchmark.report').tabulate(job, timed, timings, {}, processes)

    monkeypatch.setattr(tool, 'measure_processes', measure_processes)
    tables = run(tmp_path, '--pairs', 'resnet34_resnet18', '--processes', '1', '2')
    assert [table['processes'] for table in tables] == [1, 2]
    assert [row['name'] for row in tables[1]['rows']] == [rows.STUDENT, rows.STEP_DEFAULTS]
    assert tables[1]['rows'][0]['wall_s']['median'] == 2


def test_tables_are_written_as_they_are_measured(monkeypatch, tmp_path):
    def measure_job(job, *args):
        if job.pair == 'resnet32x4_resnet8x4':
            raise KeyboardInterrupt
        return load('step_benchmark.report').tabulate(job, [], {}, {})

    monkeypatch.setattr(tool, 'measure_job', measure_job)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, '--pairs', 'resnet56_resnet20', 'resnet32x4_resnet8x4')
    tables = json.loads((tmp_path / 'out.json').read_text())['tables']
    assert [table['pair'] for table in tables] == ['resnet56_resnet20']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--rounds=0'], 'expected a positive integer'),
        (['--threads=2.5'], 'expected a positive integer'),
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
