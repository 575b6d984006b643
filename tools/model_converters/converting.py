"""What all converters share: reading a stranger's checkpoint and writing one of MMEngine's."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reviewkd_mm.errors import ConfigError, UserError
from reviewkd_mm.files.safe_loading import describe_damage, harmless_globals, refused_global
from reviewkd_mm.utils import did_you_mean

STATE_DICT_KEYS = ('model', 'state_dict')
ACCURACY_KEYS = ('accuracy', 'best_acc')
MOBILENET_V2_BLOCKS = (1, 2, 3, 4, 3, 3, 1)


class ConversionError(ConfigError):
    """A checkpoint cannot be converted; the message has one line a problem."""


def load_checkpoint(path: str | Path) -> Any:
    """Read a checkpoint onto the CPU without running code in it.

    Besides tensors and plain values, NumPy's numbers and arrays of numbers and
    ``argparse.Namespace`` are read, since such checkpoints hold accuracies, weights and options
    in these types.

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
        with torch.serialization.safe_globals(harmless_globals()):
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
    arrays = (value for value in checkpoint.values() if isinstance(value, (Tensor, np.ndarray)))
    if any(array.ndim > 1 for array in arrays):
        return dict(checkpoint)
    found = ', '.join(repr(key) for key in checkpoint) or 'nothing'
    raise ConversionError(
        f"the file holds no state dict: expected 'model', 'state_dict' or weights, found {found}"
    )


def as_tensors(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with tensors in the place of NumPy's arrays.

    Args:
        state_dict (Mapping[str, Any]): Tensors, arrays or anything else by name.
    """
    return {
        name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
        for name, value in state_dict.items()
    }


def match_arch(text: str, archs: Iterable[str]) -> str:
    """Return the architecture that a name means, whatever its case and separators.

    Args:
        text (str): Such as ``'resnet50'``, ``'ResNet-50'``.
        archs (Iterable[str]): The names there are.

    Returns:
        str: One of ``archs``.

    Raises:
        ConversionError: If there is no such architecture, with the nearest ones.
    """
    archs = list(archs)
    known = {_letters_and_digits(name): name for name in archs}
    name = known.get(_letters_and_digits(text))
    if name is None:
        raise ConversionError(f'--arch {text}: unknown, {did_you_mean(text.lower(), archs)}')
    return name


def misfits(
    source: Mapping[str, Any], expected: Mapping[str, Tensor], optional: Iterable[str] = ()
) -> list[str]:
    """Return what keeps the tensors of a file from being those of a network, one line each.

    Args:
        source (Mapping[str, Any]): What the file holds, by its names.
        expected (Mapping[str, Tensor]): The network's tensors, by the same names.
        optional (Iterable[str]): Names that the file may lack. Those that end in
            ``num_batches_tracked`` always may. Defaults to none.
    """
    problems = []
    for name, value in source.items():
        if name not in expected:
            problems.append(f'unexpected: {name} has no place in the network')
        elif not isinstance(value, Tensor):
            problems.append(f'not a tensor: {name} is of type {type(value).__name__}')
        elif value.shape != expected[name].shape:
            got, wanted = tuple(value.shape), tuple(expected[name].shape)
            problems.append(f'shape mismatch: {name} is {got}, the network expects {wanted}')
    missing = expected.keys() - source.keys() - set(optional)
    return problems + [
        f'missing: {name} is not in the file'
        for name in expected
        if name in missing and not name.endswith('.num_batches_tracked')
    ]


def mobilenet_v2_place(block: str) -> int:
    """Return the place in ``features`` of a block that OpenMMLab names by its layer.

    Args:
        block (str): Such as ``'layer2.1'``, the second block of the second layer.

    Returns:
        int: Its index in the MobileNetV2 of torchvision and its relatives, such as 3.
    """
    layer, index = (int(part) for part in block.removeprefix('layer').split('.'))
    return 1 + sum(MOBILENET_V2_BLOCKS[: layer - 1]) + index


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
    except (UserError, OSError) as error:
        for line in str(error).splitlines():
            print(f'error: {line}', file=sys.stderr)
        return 1
    return 0


def _letters_and_digits(text: str) -> str:
    return re.sub('[^a-z0-9]', '', text.lower())


def _reason(error: Exception) -> str:
    """Return why torch.load refused a file, in one line."""
    name = refused_global(error)
    if name is not None:
        return (
            f"refused, since reading it could run code: it refers to '{name}', but only "
            'tensors and plain values are read; save its state dict alone'
        )
    return f'damaged, or not written by torch.save ({describe_damage(error)})'
