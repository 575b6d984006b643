"""Trainings that are to be run: where each goes, whether it is finished, how it goes on."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.runs.reading import find_runs, read_run
from reviewkd_mm.runs.run import Run, checkpoint_number, last_checkpoint

SEED = 'randomness.seed'
LOCK, SETTINGS = '.lock', 'short_protocol.json'


@dataclass(frozen=True)
class Job:
    """A training that is to be run.

    Args:
        config (Path): Its config file.
        seed (int): Its seed.
        work_dir (Path): Its folder.
        options (tuple[str, ...]): Its ``--cfg-options`` besides the seed. Defaults to none.
    """

    config: Path
    seed: int
    work_dir: Path
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called."""
        return self.work_dir.name

    def read(self) -> Run | None:
        """Read how far it is, None where it has not logged yet."""
        return read_run(self.work_dir) if find_runs([self.work_dir])[0] else None

    def arguments(self, run: Run | None) -> list[str]:
        """Return the arguments of tools/train.py.

        Args:
            run (Run | None): How far it is.
        """
        return [
            str(self.config),
            *('--work-dir', str(self.work_dir)),
            *_resume(self.work_dir, run),
            *('--cfg-options', f'{SEED}={self.seed}', *self.options),
        ]

    def claim(self) -> None:
        """Write down in the folder what it is for.

        Raises:
            ValueError: If the folder is of a training with other settings.
        """
        wanted = dict(
            # A checkout may move.
            config=f'{self.config.resolve().parent.name}/{self.config.name}',
            seed=self.seed,
            cfg_options=list(self.options),
        )
        file = self.work_dir / SETTINGS
        try:
            found = json.loads(file.read_text())
        except (OSError, ValueError):  # Not there yet, or half-written.
            file.write_text(json.dumps(wanted))
            return
        if found != wanted:
            raise ConfigError(
                f'{self.work_dir} holds a training with other settings, {found}: expected '
                f'{wanted}; choose another --work-dir, or move the folder away'
            )

    @contextmanager
    def locked(self) -> Iterator[int | None]:
        """Keep other processes from the folder, for as long as this one or its children live.

        The context's value is the lock's file descriptor, None where another process has it.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        with open(self.work_dir / LOCK, 'a') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            # Closing gives it back once no child has the descriptor any more.
            yield file.fileno()


def _resume(work_dir: Path, run: Run | None) -> list[str]:
    """Return how tools/train.py goes on, nothing where it begins."""
    checkpoint = last_checkpoint(work_dir)
    if run is None or not (work_dir / 'last_checkpoint').exists():
        return []
    if checkpoint is not None and not _is_last(checkpoint, run):
        return ['--resume']
    # The last one is lost, or its validation is: from the end no training validates any more.
    earlier = [
        (number, file)
        for file in work_dir.glob('*.pth')
        if (number := checkpoint_number(file)) is not None and number < (run.total or number)
    ]
    return ['--resume', str(max(earlier)[1])] if earlier else []


def _is_last(checkpoint: Path, run: Run) -> bool:
    number = checkpoint_number(checkpoint)
    return run.total is not None and number is not None and number >= run.total


def plan_jobs(
    configs: Sequence[str | Path],
    seeds: Sequence[int],
    work_dir: str | Path,
    options: Sequence[str] = (),
) -> list[Job]:
    """Plan the trainings of a comparison: every config with every seed.

    Args:
        configs (Sequence[str | Path]): Config files, in the order in which they are to be run.
        seeds (Sequence[int]): The seeds.
        work_dir (str | Path): Folder of the work dirs, each ``{config}_seed{seed}``; configs of
            the same name have that of their folder before it.
        options (Sequence[str]): ``--cfg-options`` of every training. Defaults to none.

    Returns:
        list[Job]: They, one config after the other.

    Raises:
        ValueError: If an option is no ``KEY=VALUE``, or sets the seed; if two configs cannot be
            told apart.
    """
    for option in options:
        key, equals, _ = option.partition('=')
        if not (key and equals):
            raise ConfigError(f'--cfg-options {option!r}: expected KEY=VALUE')
        if key == SEED:
            raise ConfigError(f'--cfg-options {option}: expected the seeds as --seeds')
    files = list({Path(config).resolve(): Path(config) for config in configs}.values())
    stems = [file.stem for file in files]
    names = [
        file.stem if stems.count(file.stem) == 1 else f'{file.resolve().parent.name}_{file.stem}'
        for file in files
    ]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f'configs={[str(file) for file in files]}: {name} is the name of more than one; '
                'expected names, with those of their folders, that differ'
            )
    return [
        Job(file, seed, Path(work_dir, f'{name}_seed{seed}'), tuple(options))
        for file, name in zip(files, names, strict=True)
        for seed in dict.fromkeys(seeds)
    ]
