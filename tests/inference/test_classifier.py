"""Tests of predicting with a classifier."""

from __future__ import annotations

from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, default_collate
from mmengine.registry import init_default_scope
from mmpretrain.apis import ImageClassificationInferencer

from reviewkd_mm.export.student import build_student, export_student, student_config
from reviewkd_mm.inference import build_predictor
from tests.inference.students import (
    ARRAY_PIPELINE,
    FILE_PIPELINE,
    GREY,
    LABELS,
    Student,
    as_drawn,
    write_classifier,
    write_image,
)
from tests.numbers import assert_close64


def scores_of_test_pipeline(student: Student, info: dict) -> torch.Tensor:
    """Scores (C,) of the plain model on an image that its data set describes by ``info``."""
    stock = student_config(student.read())
    init_default_scope('mmpretrain')
    data = Compose(stock.test_dataloader.dataset.pipeline)(info)
    model = build_student(stock, str(student.checkpoint)).eval()
    with torch.no_grad():
        return model.test_step(default_collate([data]))[0].pred_score


def describe(scores: torch.Tensor) -> str:
    best = int(scores.argmax())
    return f'{LABELS[best]} {scores[best]:.2f}'


@pytest.mark.usefixtures('in_float64')
def test_predicts_what_its_test_pipeline_predicts(tmp_path):
    student = write_classifier(tmp_path, FILE_PIPELINE, to_rgb=True)
    image = write_image(tmp_path / 'image.png')

    predictor = build_predictor(student.read(), str(student.checkpoint), 'cpu')

    scores = scores_of_test_pipeline(student, dict(img_path=str(image)))
    assert_close64(predictor.classify(str(image)).pred_score, scores)
    assert predictor.predict(image).found == describe(scores)


@pytest.mark.usefixtures('in_float64')
def test_an_image_is_loaded_as_the_pipeline_says(tmp_path):
    grey = dict(FILE_PIPELINE[0], **GREY)
    student = write_classifier(
        tmp_path,
        [grey, *FILE_PIPELINE[1:]],
        backbone=dict(type='ResNet', depth=18, base_channels=2, in_channels=1),
        mean=[99.0],
        std=[50.0],
    )
    image = write_image(tmp_path / 'image.png')

    predictor = build_predictor(student.read(), str(student.checkpoint), 'cpu')

    scores = scores_of_test_pipeline(student, dict(img_path=str(image)))
    assert_close64(predictor.classify(str(image)).pred_score, scores)
    assert predictor.predict(image).drawing.shape[2] == 3


def test_mmpretrains_inferencer_says_the_same_of_the_exported_student(tmp_path):
    student = write_classifier(tmp_path, FILE_PIPELINE, to_rgb=True)
    image = write_image(tmp_path / 'image.png')
    weights, config = export_student(student.read(), student.checkpoint, tmp_path / 'out.pth')

    (expected,) = ImageClassificationInferencer(str(config), str(weights))(str(image))

    predictor = build_predictor(student.read(), str(student.checkpoint), 'cpu')
    np.testing.assert_array_equal(
        predictor.classify(str(image)).pred_score.numpy(), expected['pred_scores']
    )


@pytest.mark.parametrize('size', [(32, 32), (40, 56)])
def test_a_student_of_arrays_gets_rgb_of_the_size_of_its_training(tmp_path, size):
    student = write_classifier(tmp_path, ARRAY_PIPELINE, to_rgb=False)
    image = write_image(tmp_path / 'image.png', *size)
    array = mmcv.imresize(mmcv.imread(image)[..., ::-1], (32, 32))

    prediction = build_predictor(student.read(), str(student.checkpoint), 'cpu').predict(image)

    scores, swapped = (
        scores_of_test_pipeline(student, dict(img=img)) for img in (array, array[..., ::-1])
    )
    assert prediction.found == describe(scores) != describe(swapped)


def test_a_student_of_arrays_whose_training_does_not_crop_takes_any_size(tmp_path):
    student = write_classifier(tmp_path, ARRAY_PIPELINE, to_rgb=False)
    image = write_image(tmp_path / 'image.png', 40, 56)
    cfg = student.read()
    cfg.pop('train_dataloader')

    prediction = build_predictor(cfg, str(student.checkpoint), 'cpu').predict(image)

    array = mmcv.imread(image)[..., ::-1]
    assert prediction.found == describe(scores_of_test_pipeline(student, dict(img=array)))


def test_the_size_of_a_crop_that_is_no_square(tmp_path):
    student = write_classifier(tmp_path, ARRAY_PIPELINE)
    cfg = student.read()
    cfg.train_dataloader.dataset.dataset.pipeline[0].crop_size = (24, 48)

    predictor = build_predictor(cfg, str(student.checkpoint), 'cpu')

    assert predictor.resize(np.zeros((40, 56, 3), np.uint8)).shape == (24, 48, 3)


@pytest.mark.parametrize(('size', 'drawn'), [((32, 64), (224, 448)), ((300, 240), (300, 240))])
def test_the_class_is_written_on_the_image(tmp_path, size, drawn):
    image = write_image(tmp_path / 'image.png', *size)
    pixels = as_drawn(mmcv.imresize(mmcv.imread(image)[..., ::-1], drawn[::-1]))

    drawing = _drawing(tmp_path, image)

    height, width = drawn
    assert drawing.shape == (height, width, 3)
    changed = (drawing != pixels).any(axis=-1)
    assert changed[: height // 4].any()
    assert not changed[height // 2 :].any()


def _drawing(folder: Path, image: Path) -> np.ndarray:
    student = write_classifier(folder, ARRAY_PIPELINE)
    return build_predictor(student.read(), str(student.checkpoint), 'cpu').predict(image).drawing
