"""Tests of where the names of the classes come from."""

from __future__ import annotations

import pytest
import torch

from reviewkd_mm.inference import build_predictor
from tests.inference.students import ARRAY_PIPELINE, LABELS, Student, write_classifier

CIFAR = dict(type='reviewkd_mm.CIFAR100', data_root='none', pipeline=ARRAY_PIPELINE)
# A base class of data sets, which knows of no classes.
NAMELESS = dict(type='BaseDataset', ann_file='none.json', pipeline=ARRAY_PIPELINE)


@pytest.fixture
def student(tmp_path) -> Student:
    return write_classifier(tmp_path, ARRAY_PIPELINE)


def names(student: Student, dataset: dict | None = None, meta: dict | None = None) -> list[str]:
    """Names of the first two classes with another data set or another meta in the checkpoint."""
    cfg = student.read()
    cfg.test_dataloader.dataset = dataset or cfg.test_dataloader.dataset
    weights = torch.load(student.checkpoint)['state_dict']
    torch.save(
        weights if meta is None else dict(meta=meta, state_dict=weights), student.checkpoint
    )
    predictor = build_predictor(cfg, str(student.checkpoint), 'cpu')
    return [predictor.name(0), predictor.name(1)]


@pytest.mark.parametrize('key', ['classes', 'CLASSES'])
def test_the_checkpoint_names_the_classes_first(student, key):
    meta = dict(dataset_meta={key: ('one', 'two', 'three', 'four', 'five')})

    assert names(student, meta=meta) == ['one', 'two']


@pytest.mark.parametrize('meta', [None, {}, dict(dataset_meta={})])
def test_the_config_names_them_next(student, meta):
    assert names(student, meta=meta) == list(LABELS[:2])


def test_the_data_set_names_them_last(student):
    assert names(student, CIFAR) == ['apple', 'aquarium_fish']


def test_classes_without_names_have_numbers(student):
    assert names(student, NAMELESS) == ['class 0', 'class 1']
