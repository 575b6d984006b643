"""Pictures of trainings: bars of what they reached, curves of how they got there."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.runs.metrics import find_metrics
from reviewkd_mm.runs.run import Run
from reviewkd_mm.runs.table import Measured, Row

BARS = {'published': 'tab:gray', 'last': 'tab:blue', 'best': 'tab:orange'}
HEIGHT = 0.8 / len(BARS)
COLUMNS = 3

Panel = tuple[str, Callable[[Run], dict[int, float]]]


def draw_bars(rows: Sequence[Row]) -> Figure | None:
    """Draw what each row measured, the metrics one below the other.

    What is published stands beside it where the two compare.

    Args:
        rows (Sequence[Row]): The rows of the table.

    Returns:
        Figure | None: The picture; None where no row has a number.
    """
    measured = sorted((row for row in rows if row.last), key=lambda row: row.metric.name)
    panels = [list(group) for _, group in groupby(measured, lambda row: row.metric.name)]
    if not panels:
        return None
    figure = Figure(figsize=(9, 1.5 + 0.9 * len(measured)), layout='constrained')
    heights = [len(panel) + 0.5 for panel in panels]
    axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for panel, ax in zip(panels, axes, strict=True):
        _draw_panel(ax, panel)
    handles = [matplotlib.patches.Patch(color=colour, label=bar) for bar, colour in BARS.items()]
    figure.legend(handles=handles, loc='outside upper center', ncols=len(BARS), fontsize=8)
    return figure


def _draw_panel(ax: Axes, rows: Sequence[Row]) -> None:
    for index, (bar, colour) in enumerate(BARS.items()):
        for place, row in enumerate(rows):
            value = getattr(row, bar)
            # Side by side they would pass for comparable.
            if value is None or (bar == 'published' and not row.is_comparable):
                continue
            value = value if isinstance(value, Measured) else Measured(value)
            drawn = ax.barh(
                place + (index - 1) * HEIGHT, value.mean, HEIGHT, xerr=value.std, color=colour
            )
            ax.bar_label(drawn, [str(value)], padding=3, fontsize=7)
    labels = [f'{row.name}\n{row.progress}' for row in rows]
    ax.set_yticks(range(len(rows)), labels, fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)  # the first above
    ax.set_xlabel(rows[0].metric.name, fontsize=8)
    ax.tick_params(axis='x', labelsize=8)
    ax.margins(x=0.15)


def draw_curves(runs: Sequence[Run]) -> Figure:
    """Draw the metric, every loss and each transfer's share over epochs or iterations.

    Args:
        runs (Sequence[Run]): The runs, each drawn in a colour of its own.

    Returns:
        Figure: The picture.

    Raises:
        ValueError: If the runs have nothing to draw, or have no common axis.
    """
    units = {run.unit: run.work_dir for run in runs}
    if len(units) > 1:
        raise ConfigError(
            f'{units["epoch"]} is counted in epochs and {units["iteration"]} in iterations: '
            'expected runs with a common axis; draw them in two pictures'
        )
    panels = list(_panels(runs))
    if not panels:
        raise ConfigError(
            f'{", ".join(str(run.work_dir) for run in runs) or "no run"}: there is nothing to '
            'draw; expected at least one logged line of a training'
        )
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * lines + 0.25 * len(runs)), layout='constrained')
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for ax, (title, read) in zip(axes, panels, strict=False):
        _draw_lines(ax, title, [read(run) for run in runs])
        ax.set_xlabel(next(iter(units)), fontsize=8)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    handles = [
        matplotlib.lines.Line2D([], [], color=colour, label=label)
        for colour, label in zip(_colours(len(runs)), _labels(runs), strict=True)
    ]
    figure.legend(handles=handles, loc='outside lower center', fontsize=8)
    return figure


def _panels(runs: Sequence[Run]) -> Iterator[Panel]:
    """Yield each panel's title and what it shows of a run."""
    for metric in dict.fromkeys(metric for run in runs for metric in find_metrics(run)):
        yield metric.name, metric.curve
    losses = dict.fromkeys(name for run in runs for name in run.losses)
    for name in losses:
        yield name, lambda run, name=name: run.loss(name)
    for name in dict.fromkeys(name for run in runs for name in run.transfers):
        if any(run.ratio(name) for run in runs if name in run.transfers):
            yield (
                f'loss_{name} / task loss',
                lambda run, name=name: run.ratio(name) if name in run.transfers else {},
            )


def _draw_lines(ax: Axes, title: str, curves: Sequence[dict[int, float]]) -> None:
    for curve, colour in zip(curves, _colours(len(curves)), strict=True):
        if curve:
            # A point alone would not be seen as a line.
            marker = 'o' if len(curve) == 1 else None
            ax.plot([*curve], [*curve.values()], color=colour, linewidth=1.2, marker=marker)
    ax.set_title(title, fontsize=9)
    ax.tick_params(labelsize=7)
    ax.grid(alpha=0.3)
    ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))


def _colours(count: int) -> list[Any]:
    if count <= 10:
        return list(matplotlib.colormaps['tab10'].colors[:count])
    return [matplotlib.colormaps['turbo'](index / (count - 1)) for index in range(count)]


def _labels(runs: Sequence[Run]) -> list[str]:
    """Name the runs by their folders; where names repeat, with the folder above."""
    folders = [run.work_dir.resolve() for run in runs]
    names = [folder.name for folder in folders]
    return [
        folder.name if names.count(folder.name) == 1 else f'{folder.parent.name}/{folder.name}'
        for folder in folders
    ]


def to_png(figure: Figure) -> bytes:
    """Return a picture as the content of a PNG file.

    Args:
        figure (Figure): The picture.
    """
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=150)
    return content.getvalue()
