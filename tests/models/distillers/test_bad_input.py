"""Some mutations of each class: tests/stress/test_bad_input.py has all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stress.mutations import CASES, check
from tests.stress.trainings import write_data

CHOSEN = (
    'wrong types: teacher_ckpt is a list',
    'wrong types: mid_channels is a word',
    'wrong types: teacher_train_bn is a word',
    'missing keys: no teacher',
    'missing keys: neck without in_channels',
    'missing keys: half a validation',
    'wrong paths: teacher config that is text',
    'wrong paths: teacher_ckpt of an unknown name',
    'wrong paths: ann_file',
    'wrong shapes: a loss as the connector',
    'wrong shapes: std of zero',
    'numbers: max_epochs is 0',
    'empty: no base_channels',
    'empty: no images in the annotations',
    'swapped and duplicate: swapped networks with a checkpoint',
    'unknown names: backbone of a detector',
    'unknown names: optimizer',
    'unknown names: key of a backbone',
    'checkpoints: changed bytes',
    'checkpoints: a weight is NaN',
    'checkpoints: code in it',
    'checkpoints: code in what is resumed',
    'data: an empty image',
    'data: a box of NaN',
)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'))


@pytest.mark.parametrize('name', CHOSEN)
def test_a_mutation_ends_as_it_should(name, data, tmp_path):
    check(CASES[name], data, tmp_path)
