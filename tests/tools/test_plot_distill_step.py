"""The picture of the benchmark's tables."""

from __future__ import annotations

import json

import mmcv
import pytest

from tests.tools.step_benchmark import load

plot, rows = load('plot_distill_step'), load('step_rows')
MACHINE = dict(processor='x86-64', cores=2, threads=2, torch='2.0')


def row(name: str, seconds: float | None) -> dict:
    wall = seconds and dict(median=seconds, minimum=seconds, maximum=seconds, spread=0)
    return dict(name=name, wall_s=wall, x_student=seconds and seconds / 2)


def table(pair: str, processes: int | None = None, **seconds: float | None) -> dict:
    names = dict(sum=rows.SUM, off=rows.STEP_OFF, defaults=rows.STEP_DEFAULTS)
    names.update(everything=rows.AMP_EVERYTHING, student=rows.STUDENT)
    measured = [row(names[key], value) for key, value in seconds.items()]
    return dict(pair=pair, batch_size=64, image_size=32, processes=processes, rows=measured)


def bars(figure) -> dict[str, list[tuple[int, float]]]:
    """Place and height of each bar by its label."""
    (axes,) = figure.axes
    return {
        container.get_label(): [
            (round(bar.get_x() + bar.get_width() / 2), bar.get_height()) for bar in container
        ]
        for container in axes.containers
    }


def test_bars_are_times_of_the_students_step():
    tables = [
        table('a', student=2.0, sum=8.0, off=6.0, defaults=4.0, everything=2.0),
        table('b', student=2.0, sum=10.0, off=7.0, defaults=5.0, everything=None),
    ]
    figure = plot.draw(tables, 'a machine')

    assert bars(figure) == {
        rows.SUM: [(0, 4.0), (1, 5.0)],
        rows.STEP_OFF: [(0, 3.0), (1, 3.5)],
        rows.STEP_DEFAULTS: [(0, 2.0), (1, 2.5)],
        rows.AMP_EVERYTHING: [(0, 1.0)],
    }
    (axes,) = figure.axes
    (line,) = axes.get_lines()
    assert list(line.get_ydata()) == [1, 1]
    assert line.get_label() == rows.STUDENT
    assert axes.get_title() == 'a machine'
    assert [t.get_text() for t in axes.get_xticklabels()] == ['a\n64 x 32 px', 'b\n64 x 32 px']


def test_processes_are_named():
    figure = plot.draw([table('a', 2, student=2.0, defaults=3.0)], 'a machine')
    assert figure.axes[0].get_xticklabels()[0].get_text() == 'a\n64 x 32 px\n2 processes'
    assert bars(figure) == {rows.STEP_DEFAULTS: [(0, 1.5)]}


@pytest.mark.parametrize('out', [None, 'pictures/drawn.png'])
def test_files_are_drawn_into_one_picture(tmp_path, monkeypatch, out):
    files = []
    for pair in 'ab':
        files.append(tmp_path / f'{pair}.json')
        tables = [table(pair, student=2.0, sum=8.0, defaults=4.0)]
        content = dict(machine=MACHINE, settings=dict(rounds=5), tables=tables)
        files[-1].write_text(json.dumps(content))
    drawn, draw = [], plot.draw
    monkeypatch.setattr(plot, 'draw', lambda *args: drawn.append(args) or draw(*args))

    plot.main([*map(str, files), *(['--out', str(tmp_path / out)] if out else [])])

    ((tables, caption),) = drawn
    assert [t['pair'] for t in tables] == ['a', 'b']
    assert caption == 'x86-64, 2 cores, 2 threads; torch 2.0; medians of 5 rounds'
    height, width, _ = mmcv.imread(str(tmp_path / (out or 'a.png'))).shape
    assert width > 100
    assert height > 100
