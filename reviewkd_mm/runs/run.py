"""A training as its work dir tells of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from mmengine.config import Config

from reviewkd_mm.files.whole_checkpoints import last_named

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
    name = Path(last_named(work_dir) or '').name
    try:
        file = work_dir / name
        return file if name and file.is_file() and file.stat().st_size else None
    except (OSError, ValueError):  # The name may be no name of a file.
        return None
