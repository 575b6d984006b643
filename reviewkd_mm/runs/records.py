"""Reading what one start of a training logged."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What a validation logs besides its metrics.
TIMES = ('data_time', 'time', 'memory')


@dataclass(frozen=True)
class TrainRecord:
    """A line of the training.

    Args:
        step (int): Iterations since the training's beginning.
        epoch (int | None): The epoch, counted from 1; None where the log does not say it.
        values (dict[str, float]): Losses, learning rate and times by name.
    """

    step: int
    epoch: int | None
    values: dict[str, float]


@dataclass(frozen=True)
class Validation:
    """A line of a validation.

    Args:
        step (int): What the log calls its step: the epoch or, by LoggerHook's settings, the
            iteration; always 0 in an iteration-based training with the default settings.
        values (dict[str, float]): The metrics by name.
    """

    step: int
    values: dict[str, float]


@dataclass
class Segment:
    """What one start of a training logged; a resumed training has several.

    Args:
        folder (Path): Its folder, named by the time of the start.
        records (list[TrainRecord | Validation]): The lines in their order.
        problems (list[str]): What could not be read. Defaults to none.
    """

    folder: Path
    records: list[TrainRecord | Validation]
    problems: list[str] = field(default_factory=list)

    @property
    def is_logged(self) -> bool:
        """Whether there is a log, be it empty."""
        return _log_of(self.folder).exists()


def _log_of(folder: Path) -> Path:
    return folder / 'vis_data' / 'scalars.json'


def read_segment(folder: Path) -> Segment:
    """Read a start's log, as far as it goes.

    Args:
        folder (Path): The folder named by the time of the start.

    Returns:
        Segment: What the log holds; a line that is damaged is left out and named.
    """
    file = _log_of(folder)
    try:
        text = file.read_bytes().decode(errors='replace')
    except OSError as error:
        return Segment(folder, [], [f'{file}: {error.strerror}'])
    records, damaged = [], []
    # Not splitlines: only a newline ends a line.
    for number, line in enumerate(text.split('\n'), start=1):
        if not line.strip():
            continue
        record = _parse(line)
        if record is None:
            damaged.append(number)
        else:
            records.append(record)
    return Segment(folder, records, _describe(file, text, damaged))


def _describe(file: Path, text: str, damaged: list[int]) -> list[str]:
    if not text.strip():
        return [f'{file}: it is empty']
    if not damaged:
        return []
    lines = ', '.join(map(str, damaged[:3])) + (' …' if len(damaged) > 3 else '')
    return [f'{file}: damaged or half-written, and left out: line {lines}']


def _parse(line: str) -> TrainRecord | Validation | None:
    """Return the record of a line, or None for a damaged one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not _is_count(record.get('step')):
        return None
    epoch = record.get('epoch')
    if epoch is not None and not _is_count(epoch):
        return None
    names = set(record) - {'step', 'epoch', 'iter'}
    values = {name: _number(record[name]) for name in record if name in names}
    values = {name: value for name, value in values.items() if value is not None}
    if 'iter' in record:
        return TrainRecord(record['step'], epoch, values)
    metrics = {name: value for name, value in values.items() if name not in TIMES}
    return Validation(record['step'], metrics)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
