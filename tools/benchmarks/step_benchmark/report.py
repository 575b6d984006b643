"""Tables of results: what the JSON file has of them, the terminal and a Markdown page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from step_benchmark.rows import STUDENT, SUM, SUM_FULL_LOSS, TEXTBOOK, Job, Kind, Row

NOT_AVAILABLE = 'n/a'
NOT_MEASURED = '-'
COLUMNS = ('', 'wall (s)', 'x student', 'x yardstick', 'x full loss', 'CPU (s)', 'peak (MiB)')
YARDSTICKS = {Kind.TRANSFERS: TEXTBOOK, Kind.STEP: SUM}


def tabulate(
    job: Job,
    rows: Sequence[Row],
    timings: Mapping[str, Sequence[tuple[float, float]]],
    peaks: Mapping[str, float | None],
    processes: int | None = None,
) -> dict[str, Any]:
    """Compute medians, sums and ratios.

    Args:
        job (Job): What was measured.
        rows (Sequence[Row]): The rows of the table. One that was not timed is n/a.
        timings (Mapping[str, Sequence[tuple[float, float]]]): Seconds of wall and CPU time of
            each round, by the row's name.
        peaks (Mapping[str, float | None]): Peak memory in MiB by the row's name.
        processes (int, optional): Number of processes in which the gradients were averaged.
            Defaults to None: one, and no averaging.

    Returns:
        dict: The table as the JSON file has it. Sums of which a part is missing are left out.
    """
    walls, cpus = (
        {name: _spread([times[index] for times in taken]) for name, taken in timings.items()}
        for index in (0, 1)
    )
    for row in rows:
        if row.kind is Kind.SUM and all(part in walls for part in row.parts):
            for seconds in (walls, cpus):
                seconds[row.name] = _add([seconds[part] for part in row.parts])

    def ratio(row: Row, other: str | None) -> float | None:
        if row.name not in walls or other not in walls:
            return None
        return walls[row.name]['median'] / walls[other]['median']

    results = [
        dict(
            name=row.name,
            wall_s=walls.get(row.name),
            cpu_s=cpus.get(row.name),
            x_student=ratio(row, STUDENT),
            x_yardstick=ratio(row, YARDSTICKS.get(row.kind)),
            x_full_loss=ratio(row, SUM_FULL_LOSS) if row.kind is Kind.STEP else None,
            peak_memory_mib=peaks.get(row.name),
            note='' if row.name in walls else NOT_AVAILABLE,
        )
        for row in rows
        if row.name in walls or row.kind is not Kind.SUM
    ]
    return dict(
        pair=job.pair,
        batch_size=job.batch_size,
        image_size=job.image_size,
        rounds=job.rounds,
        processes=processes,
        rows=results,
    )


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    low, high = min(seconds), max(seconds)
    return dict(median=statistics.median(seconds), minimum=low, maximum=high, spread=high - low)


def _add(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: sum(part[key] for part in parts) for key in parts[0]}


def describe(machine: Mapping[str, Any], rounds: int) -> str:
    """Say in a line where and how the tables were measured."""
    processor = f'{machine["processor"]}, {machine["cores"]} cores, {machine["threads"]} threads'
    parts = [processor, f'torch {machine["torch"]}', f'medians of {rounds} rounds']
    if 'gpu' in machine:
        parts.insert(0, machine['gpu'])
    return '; '.join(parts)


def make_table(table: Mapping[str, Any], caption: str) -> Table:
    """Lay out a table of :func:`tabulate` for the terminal."""
    drawn = Table(title=_title(table), caption=caption)
    columns, *rows = _cells(table)
    for column in columns:
        drawn.add_column(column, justify='right' if column else 'left', no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    return drawn


def write_markdown(file: Path, tables: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Write tables of :func:`tabulate` so that they can be pasted into a page."""
    lines = [caption[0].upper() + caption[1:] + '.']
    for table in tables:
        columns, *rows = _cells(table)
        cells = [columns, ['---', *['---:'] * (len(columns) - 1)], *rows]
        lines += ['', f'### {_title(table)}', '', *(f'| {" | ".join(row)} |' for row in cells)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('\n'.join(lines) + '\n')


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write the machine, the settings and the tables."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + '\n')


def _title(table: Mapping[str, Any]) -> str:
    title = f'{table["pair"]}: {table["batch_size"]} images of {table["image_size"]} px'
    if table['processes'] is None:
        return title
    return f'{title} in each of {table["processes"]} processes'


def _cells(table: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of a table, the names of the columns first."""
    lines = [[*COLUMNS], *(_format(row) for row in table['rows'])]
    if all(row['x_full_loss'] is None for row in table['rows']):
        for line in lines:
            del line[COLUMNS.index('x full loss')]
    return lines


def _format(row: Mapping[str, Any]) -> list[str]:
    wall, cpu, peak = row['wall_s'], row['cpu_s'], row['peak_memory_mib']
    ratios = (row['x_student'], row['x_yardstick'], row['x_full_loss'])
    return [
        row['name'],
        f'{wall["median"]:.4f}' if wall else row['note'],
        *('' if ratio is None else f'{ratio:.3f}' for ratio in ratios),
        f'{cpu["median"]:.4f}' if cpu else row['note'],
        NOT_MEASURED if peak is None else f'{peak:.0f}',
    ]
