"""What all converters share: reading a stranger's checkpoint and writing one of MMEngine's."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

STATE_DICT_KEYS = ('model', 'state_dict')
ACCURACY_KEYS = ('accuracy', 'best_acc')


class ConversionError(ValueError):
    """A checkpoint cannot be converted; the message has one line a problem."""


def load_checkpoint(path: str | Path) -> Any:
    """Read a checkpoint onto the CPU without running code in it.

    Besides tensors and plain values, NumPy's numbers and ``argparse.Namespace`` are read, since
    such checkpoints hold accuracies and options in these types.

    Args:
        path (str | Path): The file.

    Returns:
        Any: What the file holds.

    Raises:
        ConversionError: If there is no such file, it refers to other code, or is damaged.
    """
    if not Path(path).is_file():
        raise ConversionError(f'{path}: no such file')
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            return torch.load(path, map_location='cpu', weights_only=True)
    # A damaged file can raise almost anything from inside torch.load.
    except Exception as error:
        raise ConversionError(f'{path}: {_reason(error)}') from error


def find_state_dict(checkpoint: Any) -> dict[str, Any]:
    """Return the state dict within a checkpoint, or the checkpoint if it is one itself.

    Args:
        checkpoint (Any): ``{'model': state_dict}``, ``{'state_dict': state_dict}`` or a state
            dict.

    Returns:
        dict[str, Any]: The state dict.

    Raises:
        ConversionError: If there is none.
    """
    if not isinstance(checkpoint, Mapping):
        kind = type(checkpoint).__name__
        raise ConversionError(f'the file holds no state dict but an object of type {kind}')
    for key in STATE_DICT_KEYS:
        if isinstance(checkpoint.get(key), Mapping):
            return dict(checkpoint[key])
    if any(isinstance(value, Tensor) and value.ndim > 1 for value in checkpoint.values()):
        return dict(checkpoint)
    found = ', '.join(repr(key) for key in checkpoint) or 'nothing'
    raise ConversionError(
        f"the file holds no state dict: expected 'model', 'state_dict' or weights, found {found}"
    )


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint completely or not at all.

    Args:
        checkpoint (dict[str, Any]): What to write.
        path (str | Path): Where to. Its folder is made if there is none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        torch.save(checkpoint, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_destination(src: Path, dst: Path, force: bool) -> None:
    """Refuse to write where a file would be lost.

    Args:
        src (Path): The file that is read.
        dst (Path): The file that is to be written.
        force (bool): Whether it may be overwritten.

    Raises:
        ConversionError: If it is a folder or the source, or it exists and may not be overwritten.
    """
    if dst.is_dir():
        raise ConversionError(f'{dst}: is a folder, expected a file name')
    if not dst.exists():
        return
    if dst.samefile(src):
        raise ConversionError(f'{dst}: is the file to convert, expected another name')
    if not force:
        raise ConversionError(f'{dst}: exists already, --force overwrites it')


def stated_facts(checkpoint: Mapping[str, Any]) -> dict[str, float]:
    """Return the accuracy and the epoch that a checkpoint states.

    Args:
        checkpoint (Mapping[str, Any]): What the file holds.
    """
    accuracy = next((checkpoint[key] for key in ACCURACY_KEYS if key in checkpoint), None)
    facts = {'accuracy': _number(accuracy), 'epoch': _number(checkpoint.get('epoch'))}
    return {name: value for name, value in facts.items() if value is not None}


def _number(value: Any) -> float | None:
    if isinstance(value, np.number) or (isinstance(value, Tensor) and value.numel() == 1):
        return value.item()
    return value if isinstance(value, (int, float)) else None


def run_converter(convert: Callable[[], str]) -> int:
    """Run a converter, print what it did or what is wrong, and return the exit status.

    Args:
        convert (Callable[[], str]): Converts, and returns what it did in lines.
    """
    try:
        print(convert())
    except (ConversionError, OSError) as error:
        for line in str(error).splitlines():
            print(f'error: {line}', file=sys.stderr)
        return 1
    return 0


def _harmless_globals() -> list[Any]:
    """Return NumPy's numbers, by their names in NumPy 1 and 2, and the options of argparse."""
    rebuild_scalar = np.float64(0).__reduce__()[0]
    return [
        (rebuild_scalar, 'numpy.core.multiarray.scalar'),
        (rebuild_scalar, 'numpy._core.multiarray.scalar'),
        np.dtype,
        *(type(np.dtype(name)) for name in ('float32', 'float64', 'int32', 'int64')),
        argparse.Namespace,
    ]


def _reason(error: Exception) -> str:
    """Return why torch.load refused a file, in one line."""
    refused = re.search(r'GLOBAL (\S+)', str(error))
    if refused:
        return (
            f"refused, since reading it could run code: it refers to '{refused[1]}', but only "
            'tensors and plain values are read; save its state dict alone'
        )
    detail = str(error).split('WeightsUnpickler error: ')[-1].strip().partition('\n')[0]
    return f'damaged, or not written by torch.save ({type(error).__name__}: {detail})'
