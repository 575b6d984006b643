"""Tests of drawing what a student reviews."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mmcv
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reviewkd_mm.inference.attention import StageMaps
from reviewkd_mm.inference.attention_figure import draw_review
from reviewkd_mm.inference.attention_reader import Review

SIZES = ((8, 12), (4, 6), (1, 1))
HEADINGS = [
    'student',
    'attention a:\nweight of the student',
    'attention b:\nweight of the residual',
    'student after\nthe connector',
    'teacher',
]


def stage(index: int, before: bool = False, fused: bool = True) -> StageMaps:
    random = np.random.default_rng(index)
    size = SIZES[index]
    return StageMaps(
        student_tap=f'backbone.layer{index}',
        teacher_tap=f'neck[{index}]',
        student=random.normal(size=size),
        connected=random.normal(size=size),
        teacher=10 * random.normal(size=size),
        attention=random.uniform(size=(2, *size)) if fused else None,
        fused=fused,
        before=random.normal(size=size) if before else None,
    )


def review(before: bool = False) -> Review:
    stages = [stage(0, before), stage(1, before), stage(2, before, fused=False)]
    image = np.random.default_rng(9).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Review(image, area=(64, 96), found='2 cat', transfer='fpn', stages=stages)


def texts(figure: Figure) -> list[str]:
    inside = [text for axes in figure.axes for text in axes.texts]
    return [text.get_text() for text in (*figure.texts, *inside)]


def cells(figure: Figure) -> list[Axes]:
    """Return the cells of all stages, row by row: what follows the image and two scales."""
    return figure.axes[3:]


def rows(figure: Figure, count: int = 3) -> list[list[Axes]]:
    found = cells(figure)
    width = len(found) // count
    return [found[row * width : (row + 1) * width] for row in range(count)]


def test_a_row_per_stage_with_its_maps_in_order():
    drawn = review()
    figure = draw_review(drawn, 'cat.png')

    for maps, row in zip(drawn.stages[:2], rows(figure)[:2], strict=True):
        wanted = [maps.student, *maps.attention, maps.connected, maps.teacher]
        assert len(row) == len(wanted)
        for axes, values in zip(row, wanted, strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert [text for text in texts(figure) if text in HEADINGS] == HEADINGS
    tops = [row[0].get_position().y1 for row in rows(figure)]
    assert tops == sorted(tops, reverse=True), 'the shallowest stage is on top'


def test_what_the_student_was_before_comes_first():
    drawn = review(before=True)
    figure = draw_review(drawn, 'cat.png')

    for maps, row in zip(drawn.stages, rows(figure), strict=True):
        assert len(row) == 6
        np.testing.assert_array_equal(row[0].images[0].get_array(), maps.before)
        np.testing.assert_array_equal(row[1].images[0].get_array(), maps.student)
    assert 'student before' in texts(figure)
    assert 'student before' not in texts(draw_review(review(), 'cat.png'))


def test_scales_of_colours():
    drawn = review()
    for maps, row in zip(drawn.stages[:2], rows(draw_review(drawn, ''))[:2], strict=True):
        student, first, second, connected, teacher = (axes.images[0] for axes in row)
        assert student.get_clim() == (maps.student.min(), maps.student.max())
        assert first.get_clim() == second.get_clim() == (0, 1)
        both = np.stack([maps.connected, maps.teacher])
        assert connected.get_clim() == teacher.get_clim() == (both.min(), both.max())
        assert first.get_cmap() != student.get_cmap() == teacher.get_cmap()


def test_single_pixels_that_hardly_differ_look_alike():
    drawn = review()
    pair = replace(drawn.stages[2], connected=np.full((1, 1), 0.77), teacher=np.full((1, 1), 0.8))
    figure = draw_review(replace(drawn, stages=[pair]), '')

    connected, teacher = (axes.images[0] for axes in rows(figure, 1)[0][3:])
    colours = [picture.to_rgba(picture.get_array())[0, 0] for picture in (connected, teacher)]
    assert np.abs(colours[0] - colours[1]).max() < 0.15


def test_maps_are_enlarged_over_the_image_and_its_padding_which_is_cut_off():
    for axes in cells(draw_review(review(), '')):
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 90), (60, 0))
        for picture in axes.images:
            assert picture.get_extent() == [0, 96, 64, 0]
            assert picture.get_interpolation() == 'nearest'


@pytest.mark.parametrize('fused', [False, True])
def test_where_nothing_is_weighted_a_label_says_why(fused):
    drawn = review()
    plain = replace(drawn.stages[2], fused=fused)
    figure = draw_review(replace(drawn, stages=[plain]), '')

    (row,) = rows(figure, 1)
    assert [len(axes.images) for axes in row] == [1, 0, 0, 1, 1]
    for axes in row[1:3]:
        (label,) = axes.texts
        assert ('the deepest' in label.get_text()) == (not fused)
        assert ('added' in label.get_text()) == fused


def test_titles_taps_and_sizes_are_written():
    drawn = review()
    same = replace(drawn.stages[1], student_tap='neck[1]', teacher_tap='neck[1]')
    figure = draw_review(replace(drawn, stages=[drawn.stages[0], same]), 'cat.png')

    written = texts(figure)
    assert 'cat.png' in written
    assert any("90 x 60 pixels,  transfer 'fpn'" in text and '2 cat' in text for text in written)
    assert 'Stage 1:  student backbone.layer0  ·  teacher neck[0]' in written
    assert 'Stage 2:  neck[1]' in written
    student = drawn.stages[0].student
    caption = f'12 x 8:  {student.min():.2f} to {student.max():.2f}'
    assert rows(figure, 2)[0][0].get_xlabel() == caption


def test_a_long_list_of_what_was_found_is_cut():
    found = ', '.join(f'{count} thing{count}' for count in range(50))
    figure = draw_review(replace(review(), found=found), '')
    (line,) = (text for text in texts(figure) if '0 thing0' in text)
    assert '49 thing49' not in line
    assert line.endswith('…')


@pytest.mark.parametrize(
    ('size', 'name'),
    [((60, 90), 'figure.jpg'), ((200, 40), 'figure.png'), ((30, 300), 'figure.png')],
)
def test_the_picture_is_wide_and_everything_is_inside(tmp_path: Path, size, name):
    image = np.full((*size, 3), 128, np.uint8)
    figure = draw_review(replace(review(), image=image, area=size), 'cat.png')

    figure.savefig(tmp_path / name)

    pixels = mmcv.imread(tmp_path / name)
    assert pixels.shape[1] == 1800
    assert pixels.std() > 20, 'a blank picture has no contrast'
    for edge in (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:]):
        assert edge.min() > 250, 'nothing is cut off'
    boxes = [axes.get_position() for axes in figure.axes]
    for index, box in enumerate(boxes):
        assert not any(
            box.x0 < other.x1 and other.x0 < box.x1 and box.y0 < other.y1 and other.y0 < box.y1
            for other in boxes[index + 1 :]
        )
