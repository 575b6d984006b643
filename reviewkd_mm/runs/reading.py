"""Trainings found on disk, each put together from what its starts logged."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config

from reviewkd_mm.runs.records import Segment, TrainRecord, Validation, read_segment
from reviewkd_mm.runs.run import Run, look_up

TIMESTAMP = re.compile(r'\d{8}_\d{6}')


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
