"""Tests of predicting with a semantic segmenter, which needs MMSegmentation."""

from __future__ import annotations

import copy

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope

from reviewkd_mm.inference import build_predictor
from tests.inference.students import CLASSES, GREY, write_image
from tests.models.distillers.helpers import build

pytest.importorskip('mmseg')

MODEL = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[255.0] * 3),
    backbone=dict(type='ResNet', depth=18, base_channels=4),
    decode_head=dict(
        type='FCNHead',
        in_channels=32,
        channels=4,
        num_convs=1,
        concat_input=False,
        norm_cfg=dict(type='BN'),
        num_classes=3,
        loss_decode=dict(type='CrossEntropyLoss'),
    ),
    test_cfg=dict(mode='whole'),
)
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]


@pytest.mark.parametrize('palette', [[(0, 0, 255), (0, 255, 0), (255, 0, 0)], None])
def test_every_pixel_gets_a_class_and_its_colour(tmp_path, palette):
    dataset = dict(type='BaseSegDataset', pipeline=PIPELINE)
    cfg = Config(
        dict(model=MODEL, default_scope='mmseg', test_dataloader=dict(dataset=dataset)),
        format_python_code=False,
    )
    weights = build(MODEL).state_dict()
    weights['decode_head.conv_seg.bias'][1] = 10.0  # The second class wins everywhere.
    meta = dict(dataset_meta=dict(classes=CLASSES, palette=palette))
    torch.save(dict(meta=meta, state_dict=weights), tmp_path / 'model.pth')
    image = write_image(tmp_path / 'image.png')

    found, drawing = build_predictor(cfg, str(tmp_path / 'model.pth'), 'cpu').predict(image)

    assert found == '100% dog'
    pixels = mmcv.imread(image)[..., ::-1]
    assert drawing.shape == pixels.shape
    assert (np.abs(drawing.astype(int) - pixels).sum(axis=-1) > 0).mean() > 0.9


@pytest.mark.usefixtures('in_float64')
def test_an_image_is_loaded_as_the_pipeline_says(tmp_path):
    model = copy.deepcopy(MODEL)
    model['data_preprocessor'].update(mean=[99.0], std=[50.0])
    model['backbone']['in_channels'] = 1
    pipeline = [dict(PIPELINE[0], **GREY), *PIPELINE[1:]]
    dataset = dict(type='BaseSegDataset', pipeline=pipeline)
    cfg = Config(
        dict(model=model, default_scope='mmseg', test_dataloader=dict(dataset=dataset)),
        format_python_code=False,
    )
    plain = build(ConfigDict(model))
    torch.save(dict(meta={}, state_dict=plain.state_dict()), tmp_path / 'model.pth')
    image = write_image(tmp_path / 'image.png')

    predictor = build_predictor(cfg, str(tmp_path / 'model.pth'), 'cpu')

    with DefaultScope.overwrite_default_scope('mmseg'):
        data = Compose([pipeline[0], pipeline[1], pipeline[3]])(dict(img_path=str(image)))
    with torch.no_grad():
        expected = plain.eval().test_step(pseudo_collate([data]))[0].pred_sem_seg.data[0].numpy()
    found = predictor.inferencer([str(image)])['predictions']
    np.testing.assert_array_equal(found, expected)
    assert predictor.predict(image).drawing.shape == (60, 80, 3)
