"""Checkpoints are read without running code in them, unless they are trusted."""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import load_checkpoint as load_as_mmengine
from torch import nn

from reviewkd_mm.files.safe_loading import (
    NOT_ONLY_WEIGHTS,
    ONLY_WEIGHTS,
    DamagedError,
    UntrustedError,
    guard_loading,
    load_checkpoint,
)
from reviewkd_mm.models.distillers.checkpoint import load_weights


class Trap:
    """An object that makes a file when it is read.

    Args:
        file (Path): The file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return open, (str(self.file), 'w')


@pytest.fixture
def made(tmp_path) -> Path:
    """Where the file would be that reading a trap makes."""
    return tmp_path / 'made'


@pytest.fixture(params=[True, False], ids=['zip', 'before torch 1.6'])
def trap(request, tmp_path, made) -> str:
    """Save good weights with a trap beside them."""
    path = tmp_path / 'trap.pth'
    content = dict(state_dict=nn.Linear(2, 2).state_dict(), meta=dict(hook=Trap(made)))
    torch.save(content, path, _use_new_zipfile_serialization=request.param)
    return str(path)


def switches() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in (ONLY_WEIGHTS, NOT_ONLY_WEIGHTS)}


def test_mmengine_alone_runs_the_code(trap, made):
    """If it stops doing so, half of what is tested here is not needed any more."""
    load_as_mmengine(nn.Linear(2, 2), trap, map_location='cpu')

    assert made.exists()


def test_code_is_not_run(trap, made):
    with pytest.raises(UntrustedError, match=r"it refers to '(io|_io)\.open'.*--trust-checkpoint"):
        load_checkpoint(trap)

    assert not made.exists()


def test_the_error_names_the_config_key_and_the_file(trap, made):
    with pytest.raises(UntrustedError, match=rf"^teacher_ckpt='{trap}' was refused, since"):
        load_weights(nn.Linear(2, 2), trap, 'teacher_ckpt')

    assert not made.exists()


def test_a_trusted_file_is_read_with_a_warning(trap, made):
    model = nn.Linear(2, 2)

    with pytest.warns(UserWarning, match=rf"'{trap}' is trusted: code in it can run"):
        load_weights(model, trap, 'teacher_ckpt', trust=True)

    assert made.exists()


def test_whoever_reads_is_guarded(trap, made):
    with pytest.raises(UntrustedError, match=rf"'{trap}' was refused"), guard_loading():
        load_as_mmengine(nn.Linear(2, 2), trap, map_location='cpu')
    with pytest.raises(UntrustedError, match='a checkpoint was refused'), guard_loading():
        torch.load(trap, weights_only=False)

    assert not made.exists()


def test_a_file_that_is_not_there(tmp_path):
    path = str(tmp_path / 'none.pth')
    with pytest.raises(FileNotFoundError, match=path), guard_loading():
        load_as_mmengine(nn.Linear(2, 2), path, map_location='cpu')


def test_a_guard_inside_of_a_guard_leaves_the_outer_one(trap, made):
    with guard_loading():
        with guard_loading():
            pass
        with pytest.raises(UntrustedError, match=rf"'{trap}' was refused"):
            load_as_mmengine(nn.Linear(2, 2), trap, map_location='cpu')

    assert not made.exists()


def test_the_guard_is_off_for_who_trusts(trap, made):
    with guard_loading(trust=True):
        load_as_mmengine(nn.Linear(2, 2), trap, map_location='cpu')

    assert made.exists()


def test_trust_inside_of_the_guard_is_for_one_file(trap, made):
    with guard_loading(), pytest.warns(UserWarning, match='is trusted'):
        load_checkpoint(trap, trust=True)
    assert made.exists()

    made.unlink()
    with pytest.raises(UntrustedError), guard_loading():
        torch.load(trap, weights_only=False)
    assert not made.exists()


@pytest.mark.parametrize('given', [{}, {ONLY_WEIGHTS: '1'}, {NOT_ONLY_WEIGHTS: '1'}])
@pytest.mark.parametrize('trust', [False, True])
def test_the_environment_is_left_as_it_was(monkeypatch, given, trust):
    for name in (ONLY_WEIGHTS, NOT_ONLY_WEIGHTS):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    before = switches()

    with guard_loading(trust):
        assert switches() != {ONLY_WEIGHTS: None, NOT_ONLY_WEIGHTS: None}

    assert switches() == before


def test_torchs_own_switch_is_trust(trap, made, monkeypatch):
    monkeypatch.setenv(NOT_ONLY_WEIGHTS, '1')

    with pytest.warns(UserWarning, match='is trusted'):
        load_checkpoint(trap)

    assert made.exists()


@pytest.mark.parametrize(
    'value',
    [
        HistoryBuffer([1.0, 2.0], [1, 1]),
        np.float32(0.5),
        np.float64(0.5),
        np.int64(3),
        np.bool_(True),
        np.arange(3, dtype=np.uint8),
        argparse.Namespace(lr=0.1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_trainings_save_is_read(tmp_path, value: Any):
    path = tmp_path / 'full.pth'
    torch.save(dict(state_dict={}, message_hub=dict(value=value)), path)

    read = load_checkpoint(path)['message_hub']['value']

    assert type(read) is type(value)
    assert pickle.dumps(read) == pickle.dumps(value)


def test_no_function_is_reached_through_an_attribute(tmp_path):
    """MMEngine allows getattr for the methods of its log, and so a way to every builtin."""
    path = tmp_path / 'reaches.pth'
    torch.save(dict(state_dict={}, meta=dict(hook=Reach(getattr, '__self__'))), path)

    with pytest.raises(UntrustedError, match="it refers to 'getattr'"):
        load_checkpoint(path)
    with pytest.raises(UntrustedError, match=rf"'{path}' was refused"), guard_loading():
        load_as_mmengine(nn.Linear(2, 2), str(path), map_location='cpu')


class Reach:
    """An object whose reading asks another one for an attribute.

    Args:
        *args (object): The other object and the attribute's name.
    """

    def __init__(self, *args: object) -> None:
        self.args = args

    def __reduce__(self) -> tuple:
        return getattr, self.args


def test_an_array_of_objects_is_refused(tmp_path, made):
    path = tmp_path / 'objects.pth'
    torch.save(np.array([Trap(made)], dtype=object), path)

    with pytest.raises(UntrustedError):
        load_checkpoint(path)

    assert not made.exists()


def test_a_changed_byte_is_found(tmp_path):
    """The bytes of a tensor, which torch does not compare with their checksum."""
    path = tmp_path / 'weights.pth'
    torch.save(dict(weight=torch.arange(4096.0)), path)
    content = bytearray(path.read_bytes())
    position = content.index(torch.arange(100.0, 200.0).numpy().tobytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert torch.load(path)['weight'].shape == (4096,)

    with pytest.raises(DamagedError, match=r"the checksum of 'weights/data/0' in it differs"):
        load_checkpoint(path)


def test_a_cut_file_is_damaged(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(weight=torch.ones(4096)), path)
    path.write_bytes(path.read_bytes()[:-200])
    assert not zipfile.is_zipfile(path)

    with pytest.raises(DamagedError, match='cut off or damaged'):
        load_checkpoint(path)


def test_a_misspelt_name_is_not_looked_up(monkeypatch):
    monkeypatch.setattr('mmengine.runner.checkpoint.load_url', sys.exit)

    with pytest.raises(ValueError, match="knows no 'torchvision://resnt18'; did you mean"):
        load_checkpoint('torchvision://resnt18')
