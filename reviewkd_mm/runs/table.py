"""The table of trainings: what was measured, beside what is published."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from reviewkd_mm.runs.metrics import Metric, find_metric
from reviewkd_mm.runs.published import (
    Listed,
    find_changes,
    find_listed,
    flatten_config,
)
from reviewkd_mm.runs.run import Run

HEADER = (
    'config',
    'teacher',
    'student',
    'metric',
    'published',
    'last',
    'best',
    'last - published',
    'best - published',
    'run',
    'seeds',
    'notes',
)
LEGEND = (
    'last: after the last validation; best: the highest of all validations; ±: the sample '
    'standard deviation over the seeds. A difference is given where the published schedule was '
    'run to its end.'
)


@dataclass(frozen=True)
class Measured:
    """A number over the runs of a row.

    Args:
        mean (float): The mean.
        std (float | None): The sample standard deviation; None of one run alone.
    """

    mean: float
    std: float | None = None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Measured | None:
        """Make it from the number of each run, None where a run has none.

        Args:
            values (Sequence[float | None]): The numbers.
        """
        if not values or None in values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f'{self.mean:.2f}' + ('' if self.std is None else f' ± {self.std:.2f}')


@dataclass
class Row:
    """A row of the table: the complete runs of one config, or one run that is not complete.

    Args:
        runs (list[Run]): The runs, which differ in their seeds alone.
        listed (Listed | None): What the metafiles say of their config.
        changes (list[str] | None): What they do otherwise than the config; None if unknown.
    """

    runs: list[Run]
    listed: Listed | None
    changes: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        self.metric: Metric | None = find_metric(self.runs[0], self.listed)
        curves = [self._curve(run) for run in self.runs]
        self.last = Measured.of([[*curve.values()][-1] if curve else None for curve in curves])
        self.best = Measured.of([self._highest(curve) for curve in curves])

    @property
    def name(self) -> str:
        """The config's name."""
        return self.listed.name if self.listed else self.runs[0].name

    @property
    def published(self) -> float | None:
        """The published number, None if there is none."""
        return self.listed.published if self.listed else None

    @property
    def is_comparable(self) -> bool:
        """Whether the published schedule was run as it is published, to its end."""
        if self.published is None or self.changes is None or self.changes:
            return False
        return not self.runs[0].name.endswith('_short') and all(r.is_complete for r in self.runs)

    def difference(self, measured: Measured | None) -> float | None:
        """Return what is measured minus what is published, None where they do not compare.

        Args:
            measured (Measured | None): What is measured.
        """
        return measured.mean - self.published if measured and self.is_comparable else None

    @property
    def progress(self) -> str:
        """How much was run, of how much."""
        run = self.runs[0]
        units = f'{run.unit}s'
        return f'{run.done} {units}' if run.total is None else f'{run.done} of {run.total} {units}'

    @property
    def seeds(self) -> str:
        """The seeds, or how many runs have none."""
        seeds = [str(run.seed) for run in self.runs if run.seed is not None]
        unset = len(self.runs) - len(seeds)
        return ', '.join([*seeds, *([f'{unset} not set'] if unset else [])])

    @property
    def notes(self) -> str:
        """What the runs do otherwise than the config, at most four keys of it."""
        if not self.changes:
            return ''
        more = f' … ({len(self.changes)} in all)' if len(self.changes) > 4 else ''
        return 'changed: ' + ', '.join(self.changes[:4]) + more

    def _curve(self, run: Run) -> dict[int, float]:
        return self.metric.curve(run) if self.metric else {}

    def _highest(self, curve: dict[int, float]) -> float | None:
        """Return the best value; of a metric that is not known nobody can tell which it is."""
        numbers = [value for value in curve.values() if value == value]  # not a NaN
        return max(numbers) if numbers and self.metric.higher_is_better else None


def make_rows(runs: Iterable[Run], listed: Sequence[Listed]) -> list[Row]:
    """Make the rows of a table, in the order of the runs.

    Complete runs whose configs differ in the seed alone share a row. Of two with the same seed
    the one that was started later counts.

    Args:
        runs (Iterable[Run]): The runs; what is doubtful is added to their problems.
        listed (Sequence[Listed]): What the metafiles list.
    """
    groups: list[tuple[Any, list[Run]]] = []
    for run in runs:
        key = (run.name, flatten_config(run.config)) if _can_share(run) else None
        group = next((found for other, found in groups if key and other == key), None)
        if group is None:
            groups.append((key, [run]))
        else:
            _join(group, run)
    rows = []
    for _, group in groups:
        entry = find_listed(group[0], listed)
        rows.append(Row(group, entry, find_changes(group[0], entry) if entry else None))
    return rows


def _can_share(run: Run) -> bool:
    return run.config is not None and run.is_complete and bool(run.validations)


def _join(group: list[Run], run: Run) -> None:
    twin = next((r for r in group if r.seed is not None and r.seed == run.seed), None)
    if twin is None:
        group.append(run)
        return
    old, new = sorted((twin, run), key=lambda each: each.started)
    new.problems.append(f'{old.work_dir}: left out, {new.work_dir} is the later run of its seed')
    group[group.index(twin)] = new


def to_markdown(rows: Sequence[Row]) -> str:
    """Write the table in Markdown, with the sources of the published numbers under it.

    Args:
        rows (Sequence[Row]): The rows.
    """
    sources: dict[str, int] = {}
    lines = ['| ' + ' | '.join(HEADER) + ' |', '|---' * 4 + '|---:' * 5 + '|---' * 3 + '|']
    for row in rows:
        published = _number(row.published)
        if published and row.listed.source:
            published += f' [{sources.setdefault(row.listed.source, len(sources) + 1)}]'
        cells = (
            row.name,
            row.listed.teacher if row.listed else '',
            row.listed.student if row.listed else '',
            row.metric.name if row.metric else '',
            published,
            str(row.last or ''),
            str(row.best or ''),
            _signed(row.difference(row.last)),
            _signed(row.difference(row.best)),
            row.progress,
            row.seeds,
            row.notes,
        )
        lines.append('| ' + ' | '.join(cell.replace('|', r'\|') for cell in cells) + ' |')
    lines += ['', LEGEND, '']
    # Items of a list, since lines alone would flow into one paragraph.
    lines += [f'- [{number}] {source}' for source, number in sources.items()]
    return '\n'.join(lines).rstrip() + '\n'


def _number(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'


def _signed(value: float | None) -> str:
    return '' if value is None else f'{value:+.2f}'


def to_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as dicts of plain values, None where a cell is empty.

    Args:
        rows (Sequence[Row]): The rows.
    """
    return [
        dict(
            config=row.name,
            teacher=row.listed.teacher if row.listed else None,
            student=row.listed.student if row.listed else None,
            metric=row.metric.name if row.metric else None,
            published=row.published,
            source=row.listed.source if row.published is not None else None,
            last=row.last and row.last.mean,
            last_std=row.last and row.last.std,
            best=row.best and row.best.mean,
            best_std=row.best and row.best.std,
            last_difference=row.difference(row.last),
            best_difference=row.difference(row.best),
            done=row.runs[0].done,
            total=row.runs[0].total,
            unit=row.runs[0].unit,
            seeds=row.seeds,
            changed=' '.join(row.changes or ()),
            work_dirs=os.pathsep.join(str(run.work_dir) for run in row.runs),
        )
        for row in rows
    ]


def to_csv(rows: Sequence[Row]) -> str:
    """Write the table as CSV, its numbers in full.

    Args:
        rows (Sequence[Row]): At least one row.
    """
    records = to_records(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0], lineterminator='\n')
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
