"""Write work dirs as MMEngine does, with numbers of one's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path


def config(
    epochs: int = 3, seed: int | None = 0, transfers: Iterable[str] = ('review',), more: str = ''
) -> str:
    """Return the text of a config."""
    transfers = {name: dict(student='neck', teacher='neck') for name in transfers}
    return (
        f"model = dict(type='reviewkd_mm.Distiller', transfers={transfers!r})\n"
        f'train_cfg = dict(by_epoch=True, max_epochs={epochs}, val_interval=1)\n'
        f'val_cfg = dict()\nrandomness = dict(seed={seed})\n{more}\n'
    )


def train(epoch: int | None, step: int, **losses: float) -> dict:
    """Return a line of the training."""
    losses = losses or dict(loss=1.0)
    line = dict(lr=0.1, data_time=0.01, **losses, time=0.1)
    return {**line, **({} if epoch is None else dict(epoch=epoch)), 'iter': step, 'step': step}


def val(step: int, value: float, key: str = 'accuracy/top1') -> dict:
    """Return a line of a validation."""
    return {key: value, 'data_time': 0.01, 'time': 0.1, 'step': step}


def epochs(values: Iterable[float], first: int = 1) -> list[dict]:
    """Return the lines of whole epochs of 10 iterations, by the accuracy after each."""
    return [
        line
        for epoch, value in enumerate(values, start=first)
        for line in (train(epoch, epoch * 10), val(epoch, value))
    ]


def write_start(
    work_dir: Path, lines: Iterable[dict] | bytes | None, start: int = 0, text: str | None = None
) -> Path:
    """Write what one start logs; return the log."""
    folder = work_dir / f'20260101_{start:06d}' / 'vis_data'
    folder.mkdir(parents=True)
    if text is not None:
        (folder / 'config.py').write_text(text)
    log = folder / 'scalars.json'
    if isinstance(lines, bytes):
        log.write_bytes(lines)
    elif lines is not None:
        log.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return log


def write_run(
    work_dir: Path, lines: Iterable[dict] | bytes, text: str | None = None, name: str | None = None
) -> Path:
    """Write a work dir of one start; return the work dir."""
    text = config() if text is None else text
    write_start(work_dir, lines, text=text)
    (work_dir / f'{name or work_dir.name}.py').write_text(text)
    return work_dir
