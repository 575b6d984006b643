"""Tests of tools/analysis_tools/plot_curves.py."""

from __future__ import annotations

from pathlib import Path

import mmcv
import pytest

from reviewkd_mm.runs import read_run
from reviewkd_mm.runs.pictures import draw_curves
from tests.runs.logs import config, epochs, train, val, write_run, write_start
from tests.tools.in_process import run_tool

TOOL = 'analysis_tools/plot_curves.py'


def message_of(*args: str | Path) -> str:
    with pytest.raises(SystemExit) as caught:
        run_tool(TOOL, *args)
    return str(caught.value.code)


def distilled(folder: Path, scale: float = 1.0) -> Path:
    lines = []
    for epoch in (1, 2):
        losses = dict(loss_cls=2.0, loss_review=scale * epoch)
        lines += [
            train(epoch, epoch, loss=2.0 + scale * epoch, **losses),
            val(epoch, 30.0 + epoch),
        ]
    return write_run(folder, lines)


def alone(folder: Path) -> Path:
    return write_run(folder, [train(1, 1, loss=3.0), val(1, 20.0)], config(transfers=()))


def lines_of(figure) -> dict[str, dict[str, list]]:
    """Values of the lines of each panel by colour."""
    return {
        ax.get_title(): {line.get_color(): list(line.get_ydata()) for line in ax.get_lines()}
        for ax in figure.axes
        if ax.get_title()
    }


def test_each_panel_has_a_line_a_run_in_the_runs_colour(tmp_path):
    folders = [distilled(tmp_path / 'a'), distilled(tmp_path / 'b', 3.0), alone(tmp_path / 'c')]
    figure = draw_curves([read_run(folder) for folder in folders])

    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    a, b, c = (line.get_color() for line in legend.get_lines())
    assert names == ['a', 'b', 'c']
    assert len({a, b, c}) == 3
    assert lines_of(figure) == {
        'Top 1 Accuracy': {a: [31, 32], b: [31, 32], c: [20]},
        'loss': {a: [3, 4], b: [5, 8], c: [3]},
        'loss_cls': {a: [2, 2], b: [2, 2]},
        'loss_review': {a: [1, 2], b: [3, 6]},
        'loss_review / task loss': {a: [0.5, 1], b: [1.5, 3]},
    }
    assert {ax.get_xlabel() for ax in figure.axes if ax.get_title()} == {'epoch'}


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [read_run(distilled(tmp_path / folder / 'run')) for folder in 'xy']
    (legend,) = draw_curves(runs).legends

    assert [text.get_text() for text in legend.get_texts()] == ['x/run', 'y/run']


def test_a_picture_is_written(tmp_path):
    distilled(tmp_path / 'runs' / 'a')
    alone(tmp_path / 'runs' / 'b')
    run_tool(TOOL, tmp_path / 'runs', '--out', tmp_path / 'new' / 'curves.png')

    picture = mmcv.imread(str(tmp_path / 'new' / 'curves.png'))
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3)}) > 10, 'it is not blank'


def test_epochs_and_iterations_have_no_common_axis(tmp_path):
    write_run(tmp_path / 'e', epochs([1]))
    write_run(tmp_path / 'i', [train(None, 5)], 'train_cfg = dict(max_iters=9)')
    message = message_of(tmp_path, '--out', tmp_path / 'x.png')

    assert f'{tmp_path / "i"} in iterations' in message
    assert f'{tmp_path / "e"} is counted in epochs' in message


def test_what_cannot_be_drawn_is_said(tmp_path, capsys):
    write_start(tmp_path / 'a', b'{"loss": 1', text=config())

    assert 'nothing to draw' in message_of(tmp_path / 'a', '--out', tmp_path / 'x.png')
    assert 'half-written' in capsys.readouterr().err
    assert "ends in '.png'" in message_of(tmp_path / 'a', '--out', tmp_path / 'x.jpg')
