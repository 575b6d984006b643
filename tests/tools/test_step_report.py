"""What the benchmark prints and writes."""

from __future__ import annotations

import io
import json

from rich.console import Console

from tests.tools.step_benchmark import load

report, results, rows = load('step_report'), load('step_results'), load('step_rows')
job = load('step_pairs').Job('pair', '/some/where/pair.py', 32, 64, rounds=3)
MACHINE = dict(processor='x86-64, AVX2', cores=2, threads=1, torch='2.0')


def stats(median: float):
    return results.Stats(median, median / 2, median * 2)


TABLE = results.Results(
    job,
    [
        results.Result(rows.STUDENT, stats(0.5), stats(1.0), x_student=1.0, memory=41.6),
        results.Result(
            rows.STEP_DEFAULTS, stats(1.25), stats(2.0), 2.5, 0.75, note='fell back to eager'
        ),
        results.Result('amp: defaults', note='n/a'),
    ],
)
DETECTOR = results.Results(job, [results.Result('step: defaults', stats(1), stats(1), 1, 2, 3)])


def test_the_machine_in_a_line():
    text = 'x86-64, AVX2, 2 cores, 1 threads; torch 2.0; medians of 5 rounds'
    assert report.describe(MACHINE, 5) == text
    assert report.describe(MACHINE | dict(gpu='a GPU'), 5) == f'a GPU; {text}'


def test_markdown(tmp_path):
    file = tmp_path / 'new' / 'table.md'
    report.write_markdown(file, [TABLE, DETECTOR], 'on some machine')
    assert file.read_text() == (
        'On some machine.\n'
        '\n'
        '### pair: 64 images of 32 px\n'
        '\n'
        '|  | wall (s) | x student | x yardstick | CPU (s) | peak (MiB) |\n'
        '| --- | ---: | ---: | ---: | ---: | ---: |\n'
        '| student step | 0.5000 | 1.000 |  | 1.0000 | 42 |\n'
        '| step: defaults (fell back to eager) | 1.2500 | 2.500 | 0.750 | 2.0000 | - |\n'
        '| amp: defaults | n/a |  |  | n/a | - |\n'
        '\n'
        '### pair: 64 images of 32 px\n'
        '\n'
        '|  | wall (s) | x student | x yardstick | x full loss | CPU (s) | peak (MiB) |\n'
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n'
        '| step: defaults | 1.0000 | 1.000 | 2.000 | 3.000 | 1.0000 | - |\n'
    )


def test_the_terminals_table_has_the_same_cells():
    output = io.StringIO()
    Console(width=110, file=output).print(report.make_table(TABLE, 'on some machine'))
    lines = output.getvalue().splitlines()
    cells = [[cell.strip() for cell in line.split('│')[1:-1]] for line in lines if '│' in line]
    assert cells == [
        ['student step', '0.5000', '1.000', '', '1.0000', '42'],
        ['step: defaults (fell back to eager)', '1.2500', '2.500', '0.750', '2.0000', '-'],
        ['amp: defaults', 'n/a', '', '', 'n/a', '-'],
    ]
    assert 'pair: 64 images of 32 px' in lines[0]
    assert 'on some machine' in lines[-1]


def test_json_has_every_number_and_no_path(tmp_path):
    file = tmp_path / 'new' / 'table.json'
    report.write_json(file, [TABLE], MACHINE, dict(rounds=3))

    content = json.loads(file.read_text())
    assert content['machine'] == MACHINE
    assert content['settings'] == dict(rounds=3)
    (table,) = content['tables']
    step = table.pop('rows')[1]
    assert table == dict(pair='pair', batch_size=64, image_size=32, rounds=3, processes=None)
    assert step == dict(
        name='step: defaults',
        wall_s=dict(median=1.25, minimum=0.625, maximum=2.5, spread=1.875),
        cpu_s=dict(median=2.0, minimum=1.0, maximum=4.0, spread=3.0),
        x_student=2.5,
        x_yardstick=0.75,
        x_full_loss=None,
        peak_memory_mib=None,
        note='fell back to eager',
    )
    assert '/some/where' not in file.read_text()
