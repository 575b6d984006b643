"""A mutation of a good config, the files that it needs, and how it is tried."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.models.distillers.helpers import (
    build,
    classifier,
    teacher_classifier,
)
from tests.stress.trainings import base_config, changed, train, write_images

TRAINS = 'trains'
REVIEW = 'model.transfers.review'
NO_CHECKPOINT = '/nowhere/teacher.pth'
TRAIN = 'train_dataloader'
VAL = 'val_dataloader'


@dataclass(frozen=True)
class Case:
    """One mutation.

    Args:
        pair (str): ``'classifier'`` or ``'detector'``.
        change (dict[str, Any]): Values by dotted key; a function is given the folder of the
            training and of the data, and returns the value.
        expected (str | tuple[str, ...]): ``TRAINS``, or what the message must contain.
        options (tuple[str, ...]): Options of tools/train.py. Defaults to none.
        kind (str): How it ends if not in a training, see :class:`Ending`. Defaults to
            ``'refused'``.
    """

    pair: str
    change: dict[str, Any]
    expected: str | tuple[str, ...]
    options: tuple[str, ...] = ()
    kind: str = 'refused'


def of_classifier(change: dict[str, Any], *expected: str, options: tuple = ()) -> Case:
    return Case('classifier', change, expected or TRAINS, options)


def of_detector(change: dict[str, Any], *expected: str, options: tuple = ()) -> Case:
    return Case('detector', change, expected or TRAINS, options)


def of_library(case: Case) -> Case:
    """Expect a library's error, with its traceback, which says enough."""
    return replace(case, kind='raised')


def set_to(key: str, value: Any, *expected: str) -> Case:
    """Change one key of the classifiers."""
    return Case('classifier', {key: value}, expected or TRAINS)


def in_detector(key: str, value: Any, *expected: str) -> Case:
    """Change one key of the detectors."""
    return Case('detector', {key: value}, expected or TRAINS)


class Files:
    """Makes the files of a mutation.

    Args:
        folder (Path): Where they go.
        data (Path): The folder of the good data.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.data = data
        self.executed = folder / 'executed'

    def text(self, name: str, content: str) -> str:
        return self.bytes(name, content.encode())

    def bytes(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def empty_folder(self, name: str) -> str:
        folder = self.folder / name
        folder.mkdir(parents=True)
        return str(folder)

    def saved(self, content: object, **kwargs: Any) -> str:
        path = self.folder / 'teacher.pth'
        torch.save(content, path, **kwargs)
        return str(path)

    def teacher(self, change: Callable[[dict[str, Tensor]], object] = dict) -> str:
        """Save a good teacher's weights, changed."""
        weights = dict(build(teacher_classifier()).state_dict())
        change(weights)
        return self.saved(dict(state_dict=weights, meta=dict(epoch=3)))

    def student_of_nan(self) -> str:
        """Save a student's weights, some of them NaN."""
        weights = build(classifier()).state_dict()
        weights[FC].fill_(math.nan)
        return self.saved(weights)

    def truncated(self, share: float) -> str:
        path = Path(self.teacher())
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        return str(path)

    def flipped(self) -> str:
        """Save a teacher's weights with bytes changed in the middle of the file."""
        path = Path(self.teacher())
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
        path.write_bytes(content)
        return str(path)

    def malicious(self, **kwargs: Any) -> str:
        """Save weights with an object that makes a file when it is read."""
        return self.saved(dict(state_dict={}, meta=Malicious(str(self.executed))), **kwargs)

    def images(self, suffix: str = '.png') -> Path:
        return write_images(self.folder / f'images{suffix}', suffix)

    def image_with(self, change: Callable[[bytes], bytes], suffix: str = '.png') -> str:
        """Write images, one of them changed."""
        folder = self.images(suffix)
        file = folder / 'dog' / f'2{suffix}'
        file.write_bytes(change(file.read_bytes()))
        return str(folder)

    def annotations(self, change: Callable[[dict], object] = dict, **parts: Any) -> str:
        """Write the detector's annotations, changed."""
        good = self.data / 'shapes' / 'annotations' / 'instances_train.json'
        content = json.loads(good.read_text())
        change(content)
        return self.text('annotations.json', json.dumps({**content, **parts}))


class Malicious:
    """An object that makes a file when it is unpickled.

    Args:
        file (str): The file.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return open, (self.file, 'w')


def teacher_with(change: Callable[[dict[str, Tensor]], object], *expected: str) -> Case:
    """Train the classifiers with a teacher whose saved weights are changed."""
    return set_to('model.teacher_ckpt', lambda files: files.teacher(change), *expected)


def teacher_file(make: Callable[[Files], str], *expected: str) -> Case:
    return set_to('model.teacher_ckpt', make, *expected)


FC = 'head.fc.weight'


def check(case: Case, data: Path, folder: Path) -> None:
    """Train with a mutated config and assert that it ends as it should.

    Nothing in the work dir is lost, and no code in a checkpoint has run.

    Args:
        case (Case): The mutation.
        data (Path): The good data.
        folder (Path): An empty folder.
    """
    files = Files(folder, data)
    change = {
        key: value(files) if callable(value) else value for key, value in case.change.items()
    }
    cfg = changed(base_config(case.pair, data), change)
    ending = train(cfg, folder, *case.options)
    assert not files.executed.exists(), 'the code in the checkpoint has run'
    assert not ending.lost
    if case.expected == TRAINS:
        assert ending.kind == 'trained', ending.message
        assert (folder / 'work' / 'student_last.pth').stat().st_size > 100
        return
    assert ending.kind == case.kind, ending.message
    missing = [part for part in case.expected if part not in ending.message]
    assert not missing, ending.message
