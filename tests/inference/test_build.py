"""Tests of choosing the predictor, and of what it refuses."""

from __future__ import annotations

import sys

import pytest
import torch
from mmengine.config import Config

from reviewkd_mm.inference import build_predictor
from reviewkd_mm.inference.classifier import ClassifierPredictor
from tests.inference.students import ARRAY_PIPELINE, write_classifier, write_detector


def test_what_inherits_from_a_config_of_ours_is_of_its_default_scope(tmp_path):
    """MMEngine stamps our scope on the model of such a config."""
    student = write_classifier(tmp_path, ARRAY_PIPELINE)
    cfg = student.read()
    cfg.model.student._scope_ = 'reviewkd_mm'
    cfg.model.student.type = 'ImageClassifier'

    predictor = build_predictor(cfg, str(student.checkpoint), 'cpu')

    assert isinstance(predictor, ClassifierPredictor)


def test_the_device_is_mmengines_choice(tmp_path, monkeypatch):
    student = write_classifier(tmp_path, ARRAY_PIPELINE)
    monkeypatch.setattr('reviewkd_mm.inference.build.get_device', lambda: 'cuda:99')

    with pytest.raises(ValueError, match="device='cuda:99'"):
        build_predictor(student.read(), str(student.checkpoint))


def test_an_unsupported_model_names_the_supported_ones(tmp_path):
    cfg = Config(dict(model=dict(type='Rotated'), default_scope='mmrotate'))

    message = r"model\.type='Rotated' is of mmrotate: .* mmpretrain, mmdet, mmseg"
    with pytest.raises(ValueError, match=message):
        build_predictor(cfg, 'none.pth', 'cpu')


def test_a_config_without_a_model():
    with pytest.raises(ValueError, match='has no model'):
        build_predictor(Config(dict(default_scope='mmdet')), 'none.pth', 'cpu')


@pytest.mark.parametrize('dataloader', [None, dict(dataset=dict(type='ConcatDataset'))])
def test_a_config_without_a_test_pipeline(tmp_path, dataloader):
    student = write_classifier(tmp_path, ARRAY_PIPELINE)
    cfg = student.read()
    cfg.test_dataloader = dataloader

    with pytest.raises(ValueError, match=r'test_dataloader\.dataset\.pipeline is missing'):
        build_predictor(cfg, str(student.checkpoint), 'cpu')


def test_a_detector_must_read_files(tmp_path):
    student = write_detector(tmp_path)
    cfg = student.read()
    del cfg.test_dataloader.dataset.pipeline[0]

    with pytest.raises(ValueError, match='expected LoadImageFromFile'):
        build_predictor(cfg, str(student.checkpoint), 'cpu')


@pytest.mark.parametrize('device', ['cuda:99', 'gpu'])
def test_a_device_that_is_not_there(tmp_path, device):
    student = write_classifier(tmp_path, ARRAY_PIPELINE)

    with pytest.raises(ValueError, match=f"device='{device}' cannot be used here"):
        build_predictor(student.read(), str(student.checkpoint), device)


def test_weights_that_do_not_fit(tmp_path):
    student = write_classifier(tmp_path, ARRAY_PIPELINE)
    saved = torch.load(student.checkpoint)
    del saved['state_dict']['student.head.fc.bias']
    torch.save(saved, student.checkpoint)

    with pytest.raises(RuntimeError, match=r'checkpoint=.* 1 missing \(head\.fc\.bias\)'):
        build_predictor(student.read(), str(student.checkpoint), 'cpu')


def test_mmsegmentation_is_asked_for_where_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'mmseg', None)
    monkeypatch.delitem(sys.modules, 'mmseg.apis', raising=False)
    cfg = Config(
        dict(
            model=dict(type='EncoderDecoder'),
            default_scope='mmseg',
            test_dataloader=dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')])),
        )
    )
    torch.save({}, tmp_path / 'student.pth')

    with pytest.raises(ValueError, match='pip install onedl-mmsegmentation'):
        build_predictor(cfg, str(tmp_path / 'student.pth'), 'cpu')
