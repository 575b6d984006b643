"""The picture of the benchmark's tables."""

from __future__ import annotations

import json

import mmcv
import pytest
from matplotlib.figure import Figure

from tests.tools.step_benchmark import load

plot, rows = load('plot_distill_step'), load('step_benchmark.rows')
tabulate = load('step_benchmark.report').tabulate
MACHINE = dict(processor='x86-64', cores=2, threads=2, torch='2.0')


def table(pair: str, processes: int | None = None, **seconds: float) -> dict:
    """Tabulate seconds of the student's step, the default one and all on."""
    names = dict(student=rows.STUDENT, defaults=rows.STEP_DEFAULTS, on=rows.AMP_EVERYTHING)
    timings = {names[key]: [(value, value)] for key, value in seconds.items()}
    return tabulate(rows.Job(pair, f'{pair}.py', 32, 64), rows.ROWS, timings, {}, processes)


def bars(figure: Figure) -> dict[str, list[tuple[int, float]]]:
    """Place and height of each bar by its label."""
    (axes,) = figure.axes
    return {
        container.get_label(): [
            (round(bar.get_x() + bar.get_width() / 2), bar.get_height()) for bar in container
        ]
        for container in axes.containers
    }


def test_bars_are_times_of_the_students_step():
    tables = [table('a', student=2.0, defaults=4.0, on=2.0), table('b', student=2.0, defaults=5.0)]
    figure = plot.draw(tables, 'a machine')

    assert bars(figure) == {
        rows.STEP_DEFAULTS: [(0, 2.0), (1, 2.5)],
        rows.AMP_EVERYTHING: [(0, 1.0)],
    }
    (axes,) = figure.axes
    (line,) = axes.get_lines()
    assert list(line.get_ydata()) == [1, 1]
    assert axes.get_title() == 'a machine'
    assert [t.get_text() for t in axes.get_xticklabels()] == ['a\n64 x 32 px', 'b\n64 x 32 px']


@pytest.mark.parametrize('out', [None, 'pictures/drawn.png'])
def test_files_are_drawn_into_one_picture(tmp_path, monkeypatch, out):
    files = [tmp_path / 'a.json', tmp_path / 'b.json']
    for file, processes in zip(files, (None, 2), strict=True):
        tables = [table(file.stem, processes, student=2.0, defaults=4.0)]
        content = dict(machine=MACHINE, settings=dict(rounds=5), tables=tables)
        file.write_text(json.dumps(content))
    drawn = []
    draw = plot.draw
    monkeypatch.setattr(plot, 'draw', lambda *args: drawn.append(draw(*args)) or drawn[-1])

    plot.main([*map(str, files), *(['--out', str(tmp_path / out)] if out else [])])

    (axes,) = drawn[0].axes
    assert [t.get_text() for t in axes.get_xticklabels()] == [
        'a\n64 x 32 px',
        'b\n64 x 32 px\n2 processes',
    ]
    assert axes.get_title() == 'x86-64, 2 cores, 2 threads; torch 2.0; medians of 5 rounds'
    height, width, _ = mmcv.imread(str(tmp_path / (out or 'a.png'))).shape
    assert min(height, width) > 100
