"""Tests of reading the image size from data pipelines."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from reviewkd_mm.checks.image_size import (
    find_image_size,
    pad_to,
    padded_image_size,
)


def make_config(scope: str = 'mmdet', **pipelines: list) -> Config:
    loaders = {
        f'{split}_dataloader': dict(dataset=dict(type='Any', pipeline=pipeline))
        for split, pipeline in pipelines.items()
    }
    return Config(dict(default_scope=scope, **loaders))


@pytest.mark.parametrize(
    ('pipeline', 'size'),
    [
        # MMDetection's and MMSegmentation's: (width, height), wider than high where it is open.
        ([dict(type='Resize', scale=(1333, 800), keep_ratio=True)], (800, 1333)),
        ([dict(type='Resize', scale=(800, 1333), keep_ratio=True)], (800, 1333)),
        ([dict(type='mmdet.Resize', scale=(320, 240))], (240, 320)),
        ([dict(type='Resize', scale=(64, 48)), dict(type='Pad', size=(96, 80))], (80, 96)),
        ([dict(type='Resize', scale=(64, 48)), dict(type='Pad', size_divisor=32)], (48, 64)),
        (
            [dict(type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)], keep_ratio=True)],
            (800, 1333),
        ),
        ([dict(type='RandomResize', scale=[(640, 480), (320, 240)])], (480, 640)),
        # MMPretrain's.
        ([dict(type='ResizeEdge', scale=256), dict(type='CenterCrop', crop_size=224)], (224, 224)),
        ([dict(type='RandomResizedCrop', scale=224)], (224, 224)),
        ([dict(type='RandomResizedCrop', scale=(192, 160))], (192, 160)),
    ],
)
def test_the_size_that_a_pipeline_ends_with(pipeline, size):
    pipeline = [dict(type='LoadImageFromFile'), *pipeline, dict(type='PackInputs')]

    assert find_image_size(make_config(val=pipeline)) == (size, 'val')


def test_a_crop_is_height_first_but_for_mmdetection():
    crop = [dict(type='RandomCrop', crop_size=(96, 64))]

    assert find_image_size(make_config('mmseg', train=crop)) == ((96, 64), 'train')
    assert find_image_size(make_config('mmdet', train=crop)) == ((64, 96), 'train')


def test_validation_comes_first_and_training_where_it_says_nothing():
    crop = [dict(type='RandomCrop', crop_size=32)]
    packing = [dict(type='PackInputs')]

    assert find_image_size(make_config(train=crop, val=packing)) == ((32, 32), 'train')
    resize = [dict(type='Resize', scale=(48, 48))]
    assert find_image_size(make_config(train=crop, val=resize)) == ((48, 48), 'val')


@pytest.mark.parametrize(
    'transform',
    [
        dict(type='PackInputs'),
        dict(type='Resize', scale_factor=2.0),
        dict(type='RandomCrop', crop_size=(0.5, 0.5), crop_type='relative_range'),
    ],
)
def test_a_pipeline_that_leaves_the_size_open(transform):
    assert find_image_size(make_config(val=[transform])) is None
    assert find_image_size(Config(dict(val_dataloader=None))) is None


def test_padding_to_a_multiple():
    assert pad_to((800, 1333), 32) == (800, 1344)
    assert pad_to((33, 32), 1) == (33, 32)


def test_the_padded_size_is_that_of_the_students_data_preprocessor():
    student = dict(type='RetinaNet', data_preprocessor=dict(pad_size_divisor=32))
    teacher = dict(type='RetinaNet', data_preprocessor=dict(pad_size_divisor=128))
    cfg = make_config(val=[dict(type='Resize', scale=(1333, 800), keep_ratio=True)])
    cfg.model = dict(type='Distiller', student=student, teacher=teacher)

    assert padded_image_size(cfg) == (800, 1344)


def test_a_config_without_a_size_asks_for_it():
    cfg = make_config(val=[dict(type='LoadImageFromFile')])
    cfg.model = dict(type='ImageClassifier')

    with pytest.raises(ValueError, match='give it with --image-size'):
        padded_image_size(cfg)
