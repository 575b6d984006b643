"""Draw what a student reviews in an image."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from reviewkd_mm.inference.attention import StageMaps
from reviewkd_mm.inference.attention_reader import Review

# In inches. Twice the pixels of a page 900 wide, for sharp text.
WIDTH, DPI = 9.0, 200
MARGIN, GAP = 0.15, 0.12
TITLE, CAPTION, HEADINGS = 0.24, 0.18, 0.36
HEADER = 1.3  # At the least.
TALLEST = 1.3  # Height of a cell by its width, at the most.
FOUND = 60  # Letters of what was found, at the most.
ATTENTION, FEATURE, GREY = 'magma', 'viridis', '0.45'
BEFORE = 'student before'
COLUMNS = (
    'student',
    'attention a:\nweight of the student',
    'attention b:\nweight of the residual',
    'student after\nthe connector',
    'teacher',
)
NOTES = (
    'a, b: the attention with which ABF fuses the student with the residual of the deeper stages,',
    'fused = a · student + b · residual. It is resized and convolved to what the teacher is '
    'compared with.',
    'Features are means over channels, each on a scale of its own; after the connector and '
    'teacher share one.',
)


@dataclass(frozen=True)
class _Cell:
    """A map (h, w) with its colours, or the reason why there is none."""

    values: np.ndarray | None
    colours: str = FEATURE
    limits: tuple[float, float] | None = None
    reason: str = ''


class _Page:
    """A figure whose parts are placed in inches from the upper left corner."""

    def __init__(self, height: float) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor='white')

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        place = (left / WIDTH, bottom / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(place)

    def text(self, left: float, top: float, text: str, **kwargs: object) -> None:
        place = (left / WIDTH, 1 - top / self.height)
        self.figure.text(*place, text, **{'va': 'top', 'fontsize': 7.5, **kwargs})


def draw_review(review: Review, title: str) -> Figure:
    """Draw an image and, below it, a row of maps for each stage, shallow to deep.

    Maps are enlarged to the area of the image, padding cut off. What the connector makes of the
    student's feature and the teacher's feature share one scale of colours in each stage.

    Args:
        review (Review): What the student reviews.
        title (str): The first line.

    Returns:
        Figure: The picture, 1800 pixels wide where it is saved.
    """
    with_before = any(stage.before is not None for stage in review.stages)
    headings = (BEFORE, *COLUMNS) if with_before else COLUMNS
    width = (WIDTH - 2 * MARGIN - (len(headings) - 1) * GAP) / len(headings)
    rows, columns = review.image.shape[:2]
    height = width * min(rows / columns, TALLEST)
    header = max(height, HEADER)
    row = TITLE + height + CAPTION
    top = MARGIN + header + GAP
    page = _Page(top + HEADINGS + row * len(review.stages) + MARGIN)

    _draw_image(page.axes(MARGIN, MARGIN, width, header), review.image)
    _draw_header(page, MARGIN + width + 2 * GAP, review, title)
    lefts = [MARGIN + index * (width + GAP) for index in range(len(headings))]
    for left, heading in zip(lefts, headings, strict=True):
        page.text(
            left + width / 2, top + HEADINGS, heading, ha='center', va='bottom', weight='bold'
        )
    top += HEADINGS
    for index, stage in enumerate(review.stages):
        page.text(MARGIN, top + 0.07, _stage_title(index, stage), color='0.2')
        for left, cell in zip(lefts, _cells(stage, with_before), strict=True):
            _draw_cell(page.axes(left, top + TITLE, width, height), cell, review)
        top += row
    return page.figure


def _draw_header(page: _Page, left: float, review: Review, title: str) -> None:
    rows, columns = review.image.shape[:2]
    page.text(left, MARGIN, title, fontsize=11, weight='bold')
    page.text(
        left,
        MARGIN + 0.24,
        f"{columns} x {rows} pixels,  transfer '{review.transfer}',  found by the student: "
        f'{shorten(review.found, FOUND, placeholder=" …")}',
    )
    for index, note in enumerate(NOTES):
        page.text(left, MARGIN + 0.46 + 0.15 * index, note, fontsize=7, color=GREY)
    scales = (
        ('attention', ATTENTION, ('0', '1')),
        ('features', FEATURE, ('low', 'high')),
    )
    for index, (name, colours, ends) in enumerate(scales):
        place = left + 2.4 * index
        page.text(place, MARGIN + 1.04, name, fontsize=7)
        axes = page.axes(place + 0.6, MARGIN + 1.05, 1.3, 0.09)
        bar = page.figure.colorbar(ScalarMappable(cmap=colours), axes, orientation='horizontal')
        bar.set_ticks([0, 1], labels=ends)
        bar.ax.tick_params(length=0, labelsize=6.5, pad=2)
        bar.outline.set_visible(False)


def _stage_title(index: int, stage: StageMaps) -> str:
    where = f'student {stage.student_tap}  ·  teacher {stage.teacher_tap}'
    if stage.student_tap == stage.teacher_tap:
        where = stage.student_tap
    return f'Stage {index + 1}:  {where}'


def _cells(stage: StageMaps, with_before: bool) -> list[_Cell]:
    shared = _limits(stage.connected, stage.teacher)
    weights = stage.attention
    if weights is None:
        reason = 'none: the residual\nis added' if stage.fused else 'none: the deepest\nstage'
        attention = [_Cell(None, reason=reason)] * 2
    else:
        attention = [_Cell(weight, ATTENTION, (0.0, 1.0)) for weight in weights]
    return [
        *([_Cell(stage.before)] if with_before else []),
        _Cell(stage.student),
        *attention,
        _Cell(stage.connected, limits=shared),
        _Cell(stage.teacher, limits=shared),
    ]


def _limits(*maps: np.ndarray) -> tuple[float, float]:
    """Return the range of some maps, that of single pixels together with 0.

    Two pixels that hardly differ would have the two ends of the scale otherwise.
    """
    low = min(float(values.min()) for values in maps)
    high = max(float(values.max()) for values in maps)
    single = all(values.size == 1 for values in maps)
    return (min(low, 0.0), max(high, 0.0)) if single else (low, high)


def _draw_cell(axes: Axes, cell: _Cell, review: Review) -> None:
    rows, columns = review.image.shape[:2]
    if cell.values is None:
        axes.set(xlim=(0, columns), ylim=(rows, 0), aspect='equal')
        _frame(axes, '0.85')
        axes.text(
            0.5, 0.5, cell.reason, ha='center', va='center', fontsize=7, color=GREY,
            transform=axes.transAxes,
        )  # fmt: skip
        return
    low, high = cell.limits or _limits(cell.values)
    height, width = review.area
    axes.imshow(
        cell.values,
        cell.colours,
        vmin=low,
        vmax=high,
        interpolation='nearest',
        extent=(0, width, height, 0),
    )
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    _frame(axes, 'white')
    axes.set_xlabel(_caption(cell.values), fontsize=6.5, color=GREY, labelpad=2)


def _caption(values: np.ndarray) -> str:
    rows, columns = values.shape
    low, high = values.min(), values.max()
    extent = f'{low:.2f}' if low == high else f'{low:.2f} to {high:.2f}'
    return f'{columns} x {rows}:  {extent}'


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image)
    axes.set_anchor('N')
    _frame(axes, 'white')


def _frame(axes: Axes, colour: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(colour)
