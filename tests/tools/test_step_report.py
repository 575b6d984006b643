"""The arithmetic of the benchmark's tables, and what it prints and writes."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from tests.tools.step_benchmark import load

report, rows = load('step_benchmark.report'), load('step_benchmark.rows')
JOB = rows.Job('pair', '/some/where/pair.py', 32, 64, rounds=3)
SECONDS = {
    rows.STUDENT: 4.0,
    rows.TEACHER: 2.0,
    rows.FULL_LOSS: 6.0,
    rows.TEXTBOOK: 10.0,
    'ABF + HCL': 5.0,
    rows.STEP_DEFAULTS: 12.0,
    'amp: defaults': 8.0,
}


def tabulate(patterns: list[str], seconds: dict[str, float], **peaks: float) -> dict:
    """Tabulate rounds of one, six and two times the given seconds, with half the CPU time."""
    timings = {name: [(f * s, f * s / 2) for f in (1, 6, 2)] for name, s in seconds.items()}
    return report.tabulate(JOB, rows.select_rows(patterns), timings, peaks)


def by_name(table: dict) -> dict[str, dict]:
    return {row['name']: row for row in table['rows']}


def test_medians_sums_and_what_each_row_is_compared_with():
    found = by_name(tabulate([*SECONDS, 'student + *', 'sum with*'], SECONDS))

    assert found[rows.STUDENT]['wall_s'] == dict(median=8, minimum=4, maximum=24, spread=20)
    assert found[rows.STUDENT]['cpu_s'] == dict(median=4, minimum=2, maximum=12, spread=10)
    assert found[rows.SUM]['wall_s']['median'] == 2 * (4 + 2 + 10)
    assert found[rows.SUM]['cpu_s']['minimum'] == (4 + 2 + 10) / 2
    keys = ('x_student', 'x_yardstick', 'x_full_loss')
    assert {name: tuple(row[key] for key in keys) for name, row in found.items()} == {
        rows.STUDENT: (1, None, None),
        rows.TEACHER: (0.5, None, None),
        rows.FULL_LOSS: (1.5, None, None),
        rows.TEXTBOOK: (2.5, None, None),
        'ABF + HCL': (1.25, 0.5, None),
        rows.SUM: (4, None, None),
        rows.SUM_FULL_LOSS: (5, None, None),
        rows.STEP_DEFAULTS: (3, 0.75, 0.6),
        'amp: defaults': (2, 0.5, 0.4),
    }


def test_what_was_not_measured_has_no_ratio_and_no_sum():
    seconds = {rows.STEP_DEFAULTS: 3.0, rows.TEACHER: 1.0}
    found = by_name(tabulate(['teacher f*', 'student + *', 'step: d*', 'amp: d*'], seconds))
    assert list(found) == [rows.TEACHER, rows.STEP_DEFAULTS, 'amp: defaults']
    assert found[rows.STEP_DEFAULTS]['x_student'] is None
    assert found[rows.STEP_DEFAULTS]['x_yardstick'] is None
    assert found['amp: defaults']['wall_s'] is None
    assert [row['note'] for row in found.values()] == ['', '', 'n/a']


def test_the_machine_in_a_line():
    machine = dict(processor='x86-64, AVX2', cores=2, threads=1, torch='2.0')
    text = 'x86-64, AVX2, 2 cores, 1 threads; torch 2.0; medians of 5 rounds'
    assert report.describe(machine, 5) == text
    assert report.describe(machine | dict(gpu='a GPU'), 5) == f'a GPU; {text}'


def test_json_comes_back_and_has_no_path(tmp_path):
    file, table = tmp_path / 'new' / 'table.json', tabulate(['*'], SECONDS)
    report.write_json(file, dict(tables=[table]))
    assert json.loads(file.read_text()) == dict(tables=[table])
    assert '/some/where' not in file.read_text()


TABLES = [
    tabulate(['student step', 'amp: d*'], {rows.STUDENT: 0.25}, **{rows.STUDENT: 41.6}),
    {**tabulate(['student*', 'teacher w*', 'text*', 'sum*', 'step: d*'], SECONDS), 'processes': 2},
]
MARKDOWN = """On some machine.

### pair: 64 images of 32 px

|  | wall (s) | x student | x yardstick | CPU (s) | peak (MiB) |
| --- | ---: | ---: | ---: | ---: | ---: |
| student step | 0.5000 | 1.000 |  | 0.2500 | 42 |
| amp: defaults | n/a |  |  | n/a | - |

### pair: 64 images of 32 px in each of 2 processes

|  | wall (s) | x student | x yardstick | x full loss | CPU (s) | peak (MiB) |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| student step | 8.0000 | 1.000 |  |  | 4.0000 | - |
| teacher with its full loss | 12.0000 | 1.500 |  |  | 6.0000 | - |
| textbook ABF + HCL | 20.0000 | 2.500 |  |  | 10.0000 | - |
| student + teacher + textbook | 32.0000 | 4.000 |  |  | 16.0000 | - |
| sum with the full loss | 40.0000 | 5.000 |  |  | 20.0000 | - |
| step: defaults | 24.0000 | 3.000 | 0.750 | 0.600 | 12.0000 | - |
"""


def test_markdown(tmp_path):
    file = tmp_path / 'new' / 'table.md'
    report.write_markdown(file, TABLES, 'on some machine')
    assert file.read_text() == MARKDOWN


@pytest.mark.parametrize('place', [0, 1])
def test_the_terminals_table_has_the_same_cells(place):
    output = io.StringIO()
    Console(width=110, file=output).print(report.make_table(TABLES[place], 'on some machine'))
    lines = output.getvalue().splitlines()
    cells = [[cell.strip() for cell in line.split('│')[1:-1]] for line in lines if '│' in line]
    section = MARKDOWN.split('### ')[1 + place].splitlines()
    assert cells == [[c.strip() for c in line.split('|')[1:-1]] for line in section[4:] if line]
    assert section[0] in lines[0]
    assert 'on some machine' in lines[-1]
