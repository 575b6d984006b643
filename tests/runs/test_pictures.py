"""The bars of what trainings reached."""

from __future__ import annotations

from pathlib import Path

from reviewkd_mm.runs import read_run
from reviewkd_mm.runs.pictures import draw_bars, to_png
from reviewkd_mm.runs.published import Listed
from reviewkd_mm.runs.table import Row
from tests.runs.logs import config, epochs, train, val, write_run

LISTED = Listed('pair', Path('pair.py'), 'Top 1 Accuracy', published=71.5)


def widths(figure) -> dict[str, list[float]]:
    """Values of each panel's bars, by what the panel measures."""
    return {ax.get_xlabel(): [bar.get_width() for bar in ax.patches] for ax in figure.axes}


def test_a_published_number_stands_beside_a_comparable_one_alone(tmp_path):
    run = read_run(write_run(tmp_path / 'a', epochs([1, 72, 70])))
    unequal = read_run(write_run(tmp_path / 'b', epochs([40, 30]), config(epochs=2)))
    figure = draw_bars([Row([run], LISTED, []), Row([unequal], LISTED, ['train_cfg.max_epochs'])])

    # published of the first; last of both; best of both
    assert widths(figure) == {'Top 1 Accuracy': [71.5, 70, 30, 72, 40]}


def test_metrics_have_panels_of_their_own(tmp_path):
    run = read_run(write_run(tmp_path / 'a', epochs([50])))
    box = read_run(write_run(tmp_path / 'b', [train(1, 1), val(1, 0.25, 'coco/bbox_mAP')]))
    figure = draw_bars([Row([run], None), Row([box], None)])

    assert widths(figure) == {'Top 1 Accuracy': [50, 50], 'box AP': [25, 25]}


def test_without_a_number_there_is_no_picture(tmp_path):
    assert draw_bars([Row([read_run(write_run(tmp_path / 'a', [train(1, 1)]))], None)]) is None


def test_a_number_that_is_none_is_no_error(tmp_path):
    run = read_run(write_run(tmp_path / 'a', epochs([50, float('nan')])))
    row = Row([run], None)

    assert str(row.last) == 'nan'
    assert row.best.mean == 50
    assert to_png(draw_bars([row])).startswith(b'\x89PNG')
