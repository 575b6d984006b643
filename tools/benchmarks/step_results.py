"""The table of a pair: seconds, ratios and memory by row, from what was timed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from step_pairs import Job
from step_rows import STUDENT, SUM, SUM_FULL_LOSS, TEXTBOOK, Kind, Row
from step_timing import Timing

NOT_AVAILABLE = 'n/a'
YARDSTICKS = {Kind.TRANSFERS: TEXTBOOK, Kind.STEP: SUM}


@dataclass(frozen=True)
class Stats:
    """Seconds over the rounds.

    Args:
        median (float): The median.
        minimum (float): The fastest round's.
        maximum (float): The slowest round's.
    """

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Stats:
        """Summarise the seconds of all rounds."""
        return cls(statistics.median(seconds), min(seconds), max(seconds))

    def __add__(self, other: Stats) -> Stats:
        return Stats(
            self.median + other.median, self.minimum + other.minimum, self.maximum + other.maximum
        )

    def to_dict(self) -> dict[str, float]:
        """Return what the JSON file has of it."""
        return asdict(self) | dict(spread=self.maximum - self.minimum)


@dataclass(frozen=True)
class Result:
    """A row of the table.

    Args:
        name (str): Name of the row.
        wall (Stats, optional): Wall time. Defaults to None: not measured.
        cpu (Stats, optional): CPU time. Defaults to None.
        x_student (float, optional): Wall time by that of the student's step. Defaults to None.
        x_yardstick (float, optional): Wall time by that of the textbook form, or of the sum of
            the parts. Defaults to None.
        x_full_loss (float, optional): Wall time by that of the sum with the teacher's full loss.
            Defaults to None.
        memory (float, optional): Peak memory in MiB. Defaults to None: not measured.
        note (str): What the reader must know. Defaults to nothing.
    """

    name: str
    wall: Stats | None = None
    cpu: Stats | None = None
    x_student: float | None = None
    x_yardstick: float | None = None
    x_full_loss: float | None = None
    memory: float | None = None
    note: str = ''

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON file has of it."""
        return dict(
            name=self.name,
            wall_s=self.wall and self.wall.to_dict(),
            cpu_s=self.cpu and self.cpu.to_dict(),
            x_student=self.x_student,
            x_yardstick=self.x_yardstick,
            x_full_loss=self.x_full_loss,
            peak_memory_mib=self.memory,
            note=self.note,
        )


@dataclass(frozen=True)
class Results:
    """The table of a pair.

    Args:
        job (Job): What was measured.
        rows (list[Result]): Its rows.
        processes (int, optional): Number of processes in which the gradients were averaged.
            Defaults to None: one, and no averaging.
    """

    job: Job
    rows: list[Result] = field(default_factory=list)
    processes: int | None = None

    @property
    def title(self) -> str:
        """What was measured, in words."""
        job = self.job
        title = f'{job.pair}: {job.batch_size} images of {job.image_size} px'
        if self.processes is None:
            return title
        return f'{title} in each of {self.processes} processes'

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON file has of it."""
        return dict(
            pair=self.job.pair,
            batch_size=self.job.batch_size,
            image_size=self.job.image_size,
            rounds=self.job.rounds,
            processes=self.processes,
            rows=[row.to_dict() for row in self.rows],
        )


def summarize(
    rows: Sequence[Row],
    timings: Mapping[str, Sequence[Timing]],
    peaks: Mapping[str, float | None],
    notes: Mapping[str, str],
) -> list[Result]:
    """Compute sums and ratios.

    Args:
        rows (Sequence[Row]): The rows of the table. One that was not timed is n/a.
        timings (Mapping[str, Sequence[Timing]]): Timings by the row's name.
        peaks (Mapping[str, float | None]): Peak memory in MiB by the row's name.
        notes (Mapping[str, str]): What the reader must know, by the row's name.

    Returns:
        list[Result]: The rows. Sums of which a part is missing are left out.
    """
    measured = {name: _result(name, taken) for name, taken in timings.items()}
    for row in rows:
        if row.kind is Kind.SUM and all(part in measured for part in row.parts):
            parts = [measured[part] for part in row.parts]
            wall, *walls = (part.wall for part in parts)
            cpu, *cpus = (part.cpu for part in parts)
            measured[row.name] = Result(row.name, sum(walls, wall), sum(cpus, cpu))
    results = []
    for row in rows:
        if row.name in measured:
            extra = dict(memory=peaks.get(row.name), note=notes.get(row.name, ''))
            result = replace(measured[row.name], **extra)
            results.append(_with_ratios(result, row, measured))
        elif row.kind is not Kind.SUM:
            results.append(Result(row.name, note=NOT_AVAILABLE))
    return results


def _result(name: str, taken: Sequence[Timing]) -> Result:
    return Result(name, Stats.of([t.wall for t in taken]), Stats.of([t.cpu for t in taken]))


def _with_ratios(result: Result, row: Row, measured: Mapping[str, Result]) -> Result:
    def by(name: str | None) -> float | None:
        return result.wall.median / measured[name].wall.median if name in measured else None

    return replace(
        result,
        x_student=by(STUDENT),
        x_yardstick=by(YARDSTICKS.get(row.kind)),
        x_full_loss=by(SUM_FULL_LOSS if row.kind is Kind.STEP else None),
    )
