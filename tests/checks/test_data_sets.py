"""Data sets without images, without inputs, or of more classes than the student has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from reviewkd_mm.checks.data_sets import check_data_sets
from tests.stress.trainings import base_config, changed, write_data

TRAIN = 'train_dataloader.dataset'


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_data(tmp_path_factory.mktemp('data'))
    (folder / 'empty' / 'cat').mkdir(parents=True)
    return folder


def check(data: Path, pair: str, **change: Any) -> None:
    change = {key.replace('__', '.'): value for key, value in change.items()}
    check_data_sets(Config(changed(base_config(pair, data), change)))


@pytest.mark.parametrize('pair', ['classifier', 'detector'])
def test_good_data_passes(data, pair):
    check(data, pair)


def test_what_is_not_known_passes(data):
    check(data, 'classifier', train_dataloader__dataset__data_root='/nowhere')
    digits = dict(type='reviewkd_mm.Digits')
    check(data, 'classifier', train_dataloader__dataset=digits, model__student__head=None)
    own = [dict(type='reviewkd_mm.BatchedCrop')]
    check(data, 'classifier', train_dataloader__dataset__pipeline=own)
    wrapped = dict(type='RepeatDataset', times=2, dataset=dict(type='CIFAR10', pipeline=own))
    check(data, 'classifier', train_dataloader__dataset=wrapped, model__student__head=None)


def test_a_folder_without_a_file_is_refused(data):
    message = rf"^train_dataloader\.dataset\.data_root: there is no file in '{data / 'empty'}'$"
    with pytest.raises(ValueError, match=message):
        check(data, 'classifier', train_dataloader__dataset__data_root=str(data / 'empty'))
    with pytest.raises(ValueError, match=r'^val_dataloader\.dataset\.data_prefix\.img: there is'):
        check(data, 'detector', val_dataloader__dataset__data_prefix__img=str(data / 'empty'))


@pytest.mark.parametrize('pipeline', [[], [dict(type='LoadImageFromFile')]])
def test_a_pipeline_that_makes_no_inputs_is_refused(data, pipeline):
    message = r'^train_dataloader\.dataset\.pipeline: none of .* makes inputs of an .*PackInputs'
    with pytest.raises(ValueError, match=message):
        check(data, 'classifier', train_dataloader__dataset__pipeline=pipeline)


@pytest.mark.parametrize(
    ('pair', 'change', 'message'),
    [
        (
            'classifier',
            {'model__student__head__num_classes': 1},
            r'^model\.student\.head\.num_classes=1: expected 2, the classes of train_dataloader',
        ),
        (
            'classifier',
            {TRAIN: dict(type='CIFAR100', data_root='', pipeline=[dict(type='PackInputs')])},
            r'^model\.student\.head\.num_classes=5: expected 100',
        ),
        (
            'detector',
            {'model__student__bbox_head__num_classes': 2},
            r'^model\.student\.bbox_head\.num_classes=2: expected 3',
        ),
    ],
)
def test_more_classes_than_outputs_are_refused(data, pair, change, message):
    with pytest.raises(ValueError, match=message):
        check(data, pair, **change)
