"""Write tables of results for the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from step_results import Result, Results

NOT_MEASURED = '-'


def make_table(results: Results, caption: str) -> Table:
    """Lay out a table for the terminal.

    Args:
        results (Results): What was measured.
        caption (str): How it was measured.
    """
    table = Table(title=results.title, caption=caption)
    columns = _columns(results)
    for column in columns:
        table.add_column(column, justify='right' if column else 'left', no_wrap=True)
    for row in results.rows:
        table.add_row(*_cells(row, columns))
    return table


def describe(machine: Mapping[str, Any], rounds: int) -> str:
    """Say in a line where and how the tables were measured.

    Args:
        machine (Mapping[str, Any]): Of ``describe_machine``.
        rounds (int): Rounds that counted.
    """
    processor = f'{machine["processor"]}, {machine["cores"]} cores, {machine["threads"]} threads'
    parts = [processor, f'torch {machine["torch"]}', f'medians of {rounds} rounds']
    if 'gpu' in machine:
        parts.insert(0, machine['gpu'])
    return '; '.join(parts)


def write_markdown(file: Path, tables: Sequence[Results], caption: str) -> None:
    """Write tables that can be pasted into a page.

    Args:
        file (Path): The Markdown file.
        tables (Sequence[Results]): The tables.
        caption (str): How they were measured.
    """
    lines = [caption[0].upper() + caption[1:] + '.']
    for results in tables:
        columns = _columns(results)
        cells = [columns, ['---', *['---:'] * (len(columns) - 1)]]
        cells += [_cells(row, columns) for row in results.rows]
        lines += ['', f'### {results.title}', '', *(f'| {" | ".join(row)} |' for row in cells)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('\n'.join(lines) + '\n')


def write_json(
    file: Path, tables: Sequence[Results], machine: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Write everything that was measured.

    Args:
        file (Path): The JSON file.
        tables (Sequence[Results]): The tables.
        machine (Mapping[str, Any]): Of ``describe_machine``.
        settings (Mapping[str, Any]): What was asked for.
    """
    content = dict(
        machine=dict(machine), settings=dict(settings), tables=[t.to_dict() for t in tables]
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + '\n')


def _columns(results: Results) -> list[str]:
    columns = ['', 'wall (s)', 'x student', 'x yardstick', 'x full loss', 'CPU (s)', 'peak (MiB)']
    if all(row.x_full_loss is None for row in results.rows):
        columns.remove('x full loss')
    return columns


def _cells(row: Result, columns: Sequence[str]) -> list[str]:
    note = f' ({row.note})' if row.wall and row.note else ''
    cells = {
        '': row.name + note,
        'wall (s)': f'{row.wall.median:.4f}' if row.wall else row.note,
        'x student': _ratio(row.x_student),
        'x yardstick': _ratio(row.x_yardstick),
        'x full loss': _ratio(row.x_full_loss),
        'CPU (s)': f'{row.cpu.median:.4f}' if row.cpu else row.note,
        'peak (MiB)': NOT_MEASURED if row.memory is None else f'{row.memory:.0f}',
    }
    return [cells[column] for column in columns]


def _ratio(value: float | None) -> str:
    return '' if value is None else f'{value:.3f}'
