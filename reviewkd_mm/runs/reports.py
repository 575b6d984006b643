"""From work dirs to files: the table, its picture, the curves."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.files.atomic_files import write_bytes, write_text
from reviewkd_mm.runs.pictures import draw_bars, draw_curves, to_png
from reviewkd_mm.runs.published import read_metafiles
from reviewkd_mm.runs.reading import find_runs, read_run
from reviewkd_mm.runs.run import Run
from reviewkd_mm.runs.table import make_rows, to_csv, to_markdown

NAME = 'results'


def write_results(paths: Iterable[str | Path], out: str | Path) -> str:
    """Write the table of trainings in Markdown and CSV, and their bars as a PNG.

    What cannot be read is named on standard error.

    Args:
        paths (Iterable[str | Path]): Work dirs, or folders of work dirs.
        out (str | Path): Folder of the three files, ``results.md``, ``.csv`` and ``.png``.

    Returns:
        str: The table in Markdown.

    Raises:
        ValueError: If there is no training at all, or a metafile is damaged.
        RuntimeError: If a file cannot be written.
    """
    runs = _read_all(paths)
    rows = make_rows(runs, read_metafiles())
    _complain(runs)
    out = Path(out)
    markdown = to_markdown(rows)
    write_text(out / f'{NAME}.md', markdown)
    write_text(out / f'{NAME}.csv', to_csv(rows))
    figure = draw_bars(rows)
    if figure is None:
        print(f'{out}: no picture, since no run has a validation yet', file=sys.stderr)
        (out / f'{NAME}.png').unlink(missing_ok=True)
    else:
        write_bytes(out / f'{NAME}.png', to_png(figure))
    return markdown


def write_curves(paths: Iterable[str | Path], out: str | Path) -> None:
    """Draw the curves of trainings into one PNG.

    What cannot be read is named on standard error.

    Args:
        paths (Iterable[str | Path]): Work dirs, or folders of work dirs.
        out (str | Path): The file, ``.png``.

    Raises:
        ValueError: If there is nothing to draw, or no common axis.
        RuntimeError: If the file cannot be written.
    """
    out = Path(out)
    if out.suffix.lower() != '.png':
        raise ConfigError(f"--out={str(out)!r}: expected the name of a file that ends in '.png'")
    runs = _read_all(paths)
    _complain(runs)
    write_bytes(out, to_png(draw_curves(runs)))


def _read_all(paths: Iterable[str | Path]) -> list[Run]:
    paths = list(paths)
    folders, problems = find_runs(paths)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not folders:
        raise ConfigError(
            f'{", ".join(map(str, paths))}: expected work dirs of trainings, folders that hold '
            'YYYYMMDD_HHMMSS/vis_data'
        )
    return [read_run(folder) for folder in folders]


def _complain(runs: Iterable[Run]) -> None:
    for run in runs:
        for problem in run.problems:
            print(problem, file=sys.stderr)
