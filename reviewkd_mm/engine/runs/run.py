"""A training, put together from what its starts logged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from mmengine.config import Config

from reviewkd_mm.engine.runs.records import Segment, TrainRecord, Validation, read_segment

TIMESTAMP = re.compile(r'\d{8}_\d{6}')
CHECKPOINT = re.compile(r'(?:epoch|iter)_(\d+)\.pth')


@dataclass
class Run:
    """A finished, interrupted or running training.

    Args:
        work_dir (Path): Its folder.
        name (str): Name of its config file without ``.py``; the folder's where that is not known.
        config (Config | None): Its config; None where none can be read.
        unit (str): ``'epoch'`` or ``'iteration'``, what its positions count.
        started (str): Time of the newest start that logged something.
        train (dict[int, list[dict[str, float]]]): The training's lines by position.
        validations (dict[int, dict[str, float]]): The metrics by position.
        problems (list[str]): What could not be read. Defaults to none.
    """

    work_dir: Path
    name: str
    config: Config | None
    unit: str
    started: str
    train: dict[int, list[dict[str, float]]]
    validations: dict[int, dict[str, float]]
    problems: list[str] = field(default_factory=list)

    @property
    def seed(self) -> int | None:
        """The seed that its config sets, None if it sets none."""
        return look_up(self.config, 'randomness.seed')

    @property
    def total(self) -> int | None:
        """How many epochs or iterations it is to have, None where its config is not known."""
        key = 'max_epochs' if self.unit == 'epoch' else 'max_iters'
        total = look_up(self.config, f'train_cfg.{key}')
        return total if isinstance(total, int) else None

    @property
    def done(self) -> int:
        """How many epochs or iterations are behind it.

        An epoch is, once it was validated, a checkpoint followed it, or the next one began.
        """
        logged, validated = max(self.train, default=0), max(self.validations, default=0)
        if self.unit == 'iteration':
            return max(logged, validated)
        saved = self.saved or 0
        # A checkpoint of an epoch that was never logged is of another training in this folder.
        return max(validated, logged - 1, saved if saved <= logged else 0)

    @property
    def saved(self) -> int | None:
        """The epoch or iteration of its last checkpoint, None if there is none."""
        checkpoint = last_checkpoint(self.work_dir)
        return None if checkpoint is None else checkpoint_number(checkpoint)

    @property
    def is_complete(self) -> bool:
        """Whether all its epochs or iterations are behind it."""
        return self.total is not None and self.done >= self.total

    @property
    def is_finished(self) -> bool:
        """Whether the checkpoint and, unless it validates never, the validation of its end exist.

        A checkpoint counts once the file ``last_checkpoint`` names it: it is complete then.
        """
        if self.total is None or self.saved != self.total:
            return False
        return look_up(self.config, 'val_cfg') is None or self.total in self.validations

    @property
    def transfers(self) -> list[str]:
        """The names of its distiller's transfers; none where there is no distiller."""
        return list(look_up(self.config, 'model.transfers') or ())

    @property
    def losses(self) -> list[str]:
        """The names of what it logged as losses, the total ``loss`` first."""
        names = dict.fromkeys(
            name for lines in self.train.values() for line in lines for name in line
        )
        losses = [name for name in names if 'loss' in name]
        return sorted(losses, key=lambda name: name != 'loss')

    def metric(self, name: str) -> dict[int, float]:
        """Return a metric of the validations by position.

        Args:
            name (str): Its name in the log, such as ``'accuracy/top1'``.
        """
        found = {at: values.get(name) for at, values in sorted(self.validations.items())}
        return {at: value for at, value in found.items() if value is not None}

    def loss(self, name: str) -> dict[int, float]:
        """Return a loss by position: the mean of what was logged there.

        Args:
            name (str): Its name in the log, such as ``'loss_cls'``.
        """
        return self._mean(lambda line: line.get(name))

    def ratio(self, transfer: str) -> dict[int, float]:
        """Return a transfer's loss by position, as a share of the task's loss.

        The task's loss is the total without all transfers' losses.

        Args:
            transfer (str): Name of the transfer.
        """
        losses = [f'loss_{name}' for name in self.transfers]

        def task(line: Mapping[str, float]) -> float | None:
            if 'loss' not in line or f'loss_{transfer}' not in line:
                return None
            return line['loss'] - sum(line.get(name, 0.0) for name in losses)

        tasks, taught = self._mean(task), self.loss(f'loss_{transfer}')
        return {at: taught[at] / value for at, value in tasks.items() if value}

    def _mean(self, read: Any) -> dict[int, float]:
        means = {}
        for at, lines in sorted(self.train.items()):
            values = [value for value in map(read, lines) if value is not None]
            if values:
                means[at] = fmean(values)
        return means


def look_up(node: Any, key: str) -> Any:
    """Return what a dotted key has in nested dicts, None where they do not have it.

    Args:
        node (Config | dict | None): The outermost dict.
        key (str): Such as ``'train_cfg.max_epochs'``.
    """
    for name in key.split('.'):
        # A Config is no Mapping.
        node = node.get(name) if isinstance(node, (Mapping, Config)) else None
    return node


def checkpoint_number(file: Path) -> int | None:
    """Return the epoch or iteration that a checkpoint is named by, None if it is by none."""
    named = CHECKPOINT.fullmatch(file.name)
    return int(named[1]) if named else None


def last_checkpoint(work_dir: Path) -> Path | None:
    """Return the checkpoint that was saved last, None if there is none.

    Args:
        work_dir (Path): The training's folder, which may have been moved.
    """
    try:
        name = Path((work_dir / 'last_checkpoint').read_text(errors='replace').strip()).name
        file = work_dir / name
        return file if name and file.is_file() and file.stat().st_size else None
    except (OSError, ValueError):
        return None


def find_runs(paths: Iterable[str | Path]) -> tuple[list[Path], list[str]]:
    """Find the work dirs of trainings.

    Args:
        paths (Iterable[str | Path]): Work dirs, or folders of work dirs.

    Returns:
        tuple[list[Path], list[str]]: The work dirs, each once, and what was wrong with a path.
    """
    found: dict[Path, Path] = {}
    problems = []
    for path in map(Path, paths):
        folders = (
            [path] if _starts(path) else [child for child in _folders(path) if _starts(child)]
        )
        if not folders:
            what = 'expected a work dir' if path.is_dir() else 'there is no such folder'
            problems.append(f'{path}: {what}; skipped, since no training has logged there')
        for folder in folders:
            found.setdefault(folder.resolve(), folder)
    return list(found.values()), problems


def read_run(work_dir: str | Path) -> Run:
    """Read a training from its work dir, as far as it goes.

    A start continues the one before it from where its own first line is: what the earlier one
    logged from there on does not count.

    Args:
        work_dir (str | Path): The folder of a training.

    Returns:
        Run: The training; ``problems`` names what could not be read.
    """
    work_dir = Path(work_dir)
    segments = [read_segment(folder) for folder in _starts(work_dir)]
    # A test in the same folder leaves a start without a log, whose config is not the training's.
    segments = [segment for segment in segments if segment.is_logged] or segments
    trained = [segment for segment in segments if segment.records] or segments
    problems = [text for segment in segments for text in segment.problems]
    name, named_by, doubts = _find_name(work_dir)
    newest = trained[-1].folder if trained else work_dir
    config, failures = _read_config([newest / 'vis_data' / 'config.py', named_by])
    run = Run(
        work_dir,
        name,
        config,
        unit=_unit(config, segments),
        started=newest.name,
        train={},
        validations={},
        problems=[*problems, *doubts, *failures],
    )
    for segment in segments:
        _continue(run, segment)
    if not run.validations:
        run.problems.append(f'{work_dir}: there is no validation yet')
    return run


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(child for child in path.iterdir() if child.is_dir())
    except OSError:
        return []


def _starts(work_dir: Path) -> list[Path]:
    return [folder for folder in _folders(work_dir) if TIMESTAMP.fullmatch(folder.name)]


def _find_name(work_dir: Path) -> tuple[str, Path | None, list[str]]:
    """Return the config's name, the file that tells it, and what is doubtful about it."""
    files = sorted(work_dir.glob('*.py'))
    # An exported student's config stands beside its checkpoint.
    files = [file for file in files if not file.with_suffix('.pth').exists()]
    own = [file for file in files if file.stem == work_dir.resolve().name]
    if len(files) == 1 or own:
        file = (own or files)[0]
        return file.stem, file, []
    what = 'several configs' if files else 'no config'
    doubt = f'{work_dir}: it has {what}, so the training goes by the name of its folder'
    return work_dir.resolve().name, None, [doubt]


def _read_config(files: list[Path | None]) -> tuple[Config | None, list[str]]:
    """Return the first config that can be read, and what was wrong with the ones before."""
    problems = []
    for file in files:
        if file is None:
            continue
        try:
            return Config.fromfile(file, import_custom_modules=False), problems
        except Exception as error:  # A config is a program, which may end in any error.
            problems.append(f'{file}: no config could be read: {type(error).__name__}: {error}')
    return None, problems


def _unit(config: Config | None, segments: list[Segment]) -> str:
    """Tell what a training is counted in, from its config or from what it logged."""
    train_cfg = look_up(config, 'train_cfg')
    for key, unit in (('max_epochs', 'epoch'), ('max_iters', 'iteration')):
        if look_up(train_cfg, key) is not None:
            return unit
    records = [record for segment in segments for record in segment.records]
    lines = [record for record in records if isinstance(record, TrainRecord)]
    return 'iteration' if lines and lines[0].epoch is None else 'epoch'


def _continue(run: Run, segment: Segment) -> None:
    """Let a run go on with a start."""
    lines = [record for record in segment.records if isinstance(record, TrainRecord)]
    positions = [at for at in (_position(run, line) for line in lines) if at is not None]
    if len(positions) < len(lines):
        run.problems.append(f"{segment.folder}: lines without 'epoch' are left out")
    if positions:
        for logged in (run.train, run.validations):
            for at in [at for at in logged if at >= positions[0]]:
                del logged[at]
    now = validated = 0
    for record in segment.records:
        if isinstance(record, Validation):
            validated = _validated_at(run, record, now, validated)
            if record.values:
                run.validations[validated] = record.values
            continue
        at = _position(run, record)
        if at is not None:
            now = at
            run.train.setdefault(at, []).append(record.values)


def _position(run: Run, line: TrainRecord) -> int | None:
    return line.epoch if run.unit == 'epoch' else line.step


def _validated_at(run: Run, record: Validation, now: int, before: int) -> int:
    """Tell where a validation is, after a line at ``now`` and another validation at ``before``."""
    by_epoch = look_up(run.config, 'default_hooks.logger.log_metric_by_epoch') is not False
    if run.unit == 'epoch':
        return record.step if by_epoch else now
    if record.step >= now and record.step:
        return record.step
    # MMEngine's default writes 0. Validations come each val_interval, and at the end.
    interval = look_up(run.config, 'train_cfg.val_interval')
    if not isinstance(interval, int) or interval < 1:
        return now
    at = max(-(-now // interval) * interval, before + interval if before else interval)
    return at if run.total is None else min(at, run.total)
