"""Compare the package with a file of golden numbers: ``python tests/golden/run.py METHOD FILE``.

Each METHOD is a file beside this one with a function ``results(golden)``, which reads inputs and
settings from a :class:`Golden` and returns what the package makes of them, by the file's keys.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-9


class MissingKeyError(KeyError):
    """A file lacks a key that a method needs."""


class Golden:
    """The arrays of a golden file; remembers which of them were read.

    Args:
        arrays (Mapping[str, np.ndarray]): The arrays by key.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = dict(arrays)
        self.read: set[str] = set()

    def __contains__(self, key: object) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.arrays:
            raise MissingKeyError(key)
        self.read.add(key)
        return self.arrays[key]

    def tensor(self, key: str) -> Tensor:
        """Read an array as a tensor of its own: floats in double precision, else as stored."""
        value = torch.tensor(self[key])
        return value.double() if value.is_floating_point() else value


def relative_error(value: Tensor, expected: np.ndarray) -> float:
    """Return the norm of the error over that of what was expected; infinite if shapes differ."""
    if tuple(value.shape) != expected.shape:
        return float('inf')
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    error = (value.detach().double() - wanted).norm()
    scale = wanted.norm()
    error = float(error / scale if scale > 0 else error)
    return error if error == error else float('inf')


def known_methods() -> list[str]:
    """Return the names of the methods' files."""
    files = Path(__file__).parent.glob('*.py')
    names = sorted(path.stem for path in files)
    return [n for n in names if n not in {'__init__', 'run'} and not n.startswith('test_')]


def compare(method: str, golden: Golden) -> tuple[dict[str, float], list[str]]:
    """Run a method on a golden file.

    Args:
        method (str): The method's name.
        golden (Golden): The file.

    Returns:
        tuple[dict[str, float], list[str]]: The relative error of each result, the worst last, and
        what is wrong with the keys: what the file lacks, and what nobody looked at.
    """
    module = importlib.import_module(f'tests.golden.{method}')
    try:
        results = module.results(golden)
    except MissingKeyError as error:
        return {}, [f'not in the file, but needed: {error.args[0]}']
    stored = golden.arrays
    errors = {k: relative_error(v, stored[k]) for k, v in results.items() if k in stored}
    lacking = [f'not in the file, but computed: {key}' for key in results.keys() - errors.keys()]
    unseen = [f'not compared: {key}' for key in stored.keys() - golden.read - errors.keys()]
    return dict(sorted(errors.items(), key=lambda item: item[1])), sorted(lacking + unseen)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the relative error of each result, the worst one last.

    Args:
        argv (Sequence[str], optional): The command line. Defaults to None, which means this
            process's.

    Returns:
        int: 0 if every result agrees and every key of the file was used, else 1.
    """
    parser = argparse.ArgumentParser(description='Compare the package with golden numbers.')
    parser.add_argument('method', choices=known_methods())
    parser.add_argument('file', type=Path, help='an .npz file')
    args = parser.parse_args(argv)
    if not args.file.is_file():
        parser.error(f'there is no file {args.file}')
    with np.load(args.file) as arrays:
        errors, faults = compare(args.method, Golden(arrays))
    for key, error in errors.items():
        print(f'{key}  {error:.3g}' + (f'  is above {TOLERANCE:g}' if error > TOLERANCE else ''))
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(bool(faults) or not errors or max(errors.values()) > TOLERANCE)


if __name__ == '__main__':
    # This checkout rather than an installed one, and no method's file in place of a library.
    sys.path[0] = str(ROOT)
    sys.exit(importlib.import_module('tests.golden.run').main())
