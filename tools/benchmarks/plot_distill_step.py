"""Draw what tools/benchmarks/distill_step.py wrote: what a step costs by that of the student."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')  # There may be no screen.

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from step_benchmark.report import describe
from step_benchmark.rows import AMP_EVERYTHING, STEP_DEFAULTS, STEP_OFF, SUM

BARS = {
    SUM: 'tab:gray',
    STEP_OFF: 'tab:orange',
    STEP_DEFAULTS: 'tab:blue',
    AMP_EVERYTHING: 'tab:red',
}
WIDTH = 0.8 / len(BARS)


def draw(tables: Sequence[Mapping[str, Any]], caption: str) -> Figure:
    """Draw a group of bars for each table; the student's step alone is a line.

    Args:
        tables (Sequence[Mapping]): The tables as the JSON file has them.
        caption (str): How they were measured.

    Returns:
        Figure: The picture.
    """
    size = (2 + 1.8 * len(tables), 4.5)
    figure, axes = plt.subplots(figsize=size, layout='constrained')
    for index, (name, colour) in enumerate(BARS.items()):
        bars = {
            place: row
            for place, table in enumerate(tables)
            for row in table['rows']
            if row['name'] == name and row['x_student'] is not None
        }
        if not bars:
            continue
        offset = (index - (len(BARS) - 1) / 2) * WIDTH
        drawn = axes.bar(
            [place + offset for place in bars],
            [row['x_student'] for row in bars.values()],
            WIDTH,
            color=colour,
            label=name,
        )
        seconds = [f'{row["wall_s"]["median"]:.2g} s' for row in bars.values()]
        axes.bar_label(drawn, seconds, rotation=90, padding=3, fontsize=7)
    axes.axhline(1, color='black', linestyle='--', linewidth=1, label='student step')
    axes.set_xticks(range(len(tables)), [_label(table) for table in tables], fontsize=8)
    axes.set(ylabel="wall time, x student's step")
    axes.set_title(caption, fontsize=8)
    axes.margins(y=0.15)
    axes.legend(fontsize=8)
    return figure


def _label(table: Mapping[str, Any]) -> str:
    label = f'{table["pair"]}\n{table["batch_size"]} x {table["image_size"]} px'
    return label if table['processes'] is None else f'{label}\n{table["processes"]} processes'


def main(argv: Sequence[str] | None = None) -> None:
    """Read the files and draw them into one picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+', type=Path, metavar='FILE', help='JSON files')
    parser.add_argument('--out', type=Path, help='the picture (default: as the first, .png)')
    args = parser.parse_args(argv)
    runs = [json.loads(file.read_text()) for file in args.files]
    captions = {describe(run['machine'], run['settings']['rounds']) for run in runs}
    tables = [table for run in runs for table in run['tables']]
    out = args.out or args.files[0].with_suffix('.png')
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(tables, '\n'.join(sorted(captions))).savefig(out, dpi=150)
    print(f'drawn into {out}')


if __name__ == '__main__':
    main()
