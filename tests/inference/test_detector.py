"""Tests of predicting with detectors and segmenters of MMDetection."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.evaluation import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from reviewkd_mm.export.student import build_student, export_student, student_config
from reviewkd_mm.inference import Predictor, build_predictor
from reviewkd_mm.utils import forked_rng
from tests.inference.students import (
    CLASSES,
    GREY,
    Student,
    as_drawn,
    mask_rcnn,
    write_detector,
    write_image,
)
from tests.integration.detection import retinanet

MODELS = [retinanet, mask_rcnn]


def build(student: Student) -> Predictor:
    return build_predictor(student.read(), str(student.checkpoint), 'cpu')


def sample_of_test_pipeline(student: Student, image: Path) -> DetDataSample:
    """What the plain model predicts in a test of its own."""
    stock = student_config(student.read())
    init_default_scope('mmdet')
    data = Compose(stock.test_dataloader.dataset.pipeline)(dict(img_path=str(image), img_id=0))
    model = build_student(stock, str(student.checkpoint)).eval()
    with torch.no_grad():
        return model.test_step(pseudo_collate([data]))[0]


def counts(found: str) -> Counter:
    return Counter({part.split()[1]: int(part.split()[0]) for part in found.split(', ')})


@pytest.mark.parametrize('model', MODELS)
def test_finds_what_its_test_pipeline_finds(tmp_path, model):
    student = write_detector(tmp_path, model())
    image = write_image(tmp_path / 'image.png')
    instances = sample_of_test_pipeline(student, image).pred_instances
    threshold = float(instances.scores.sort().values[4])

    found = build(student).predict(image, threshold).found

    kept = instances.labels[instances.scores > threshold]
    assert counts(found) == Counter(CLASSES[label] for label in kept)
    assert counts(found).total() == 5


def test_an_image_is_loaded_as_the_pipeline_says(tmp_path):
    model = retinanet(data_preprocessor=dict(type='DetDataPreprocessor', mean=[99.0], std=[50.0]))
    model['backbone']['in_channels'] = 1
    student = write_detector(tmp_path, model, GREY)
    image = write_image(tmp_path / 'image.png')
    instances = sample_of_test_pipeline(student, image).pred_instances
    threshold = float(instances.scores.sort().values[4])

    prediction = build(student).predict(image, threshold)

    kept = instances.labels[instances.scores > threshold]
    assert counts(prediction.found) == Counter(CLASSES[label] for label in kept)
    assert prediction.drawing.shape == (60, 80, 3)


@pytest.mark.parametrize('model', MODELS)
def test_mmdetections_inferencer_draws_the_same_of_the_exported_student(tmp_path, model):
    student = write_detector(tmp_path, model())
    image = write_image(tmp_path / 'image.png')
    weights, config = export_student(student.read(), student.checkpoint, tmp_path / 'out.pth')
    config.write_text(f"{config.read_text()}\nvisualizer = dict(type='DetLocalVisualizer')\n")
    inferencer = DetInferencer(str(config), str(weights), device='cpu', palette='random')
    with forked_rng(0):
        expected = inferencer([str(image)], return_vis=True, pred_score_thr=0.0)

    drawing = build(student).predict(image, 0.0).drawing

    np.testing.assert_array_equal(drawing, expected['visualization'][0])


def test_boxes_are_drawn_where_they_are(tmp_path):
    student = write_detector(tmp_path)
    image = write_image(tmp_path / 'image.png', 240, 320)
    pixels = as_drawn(mmcv.imread(image)[..., ::-1], times=2)
    instances = sample_of_test_pipeline(student, image).pred_instances
    threshold = float(instances.scores[1])

    drawing = build(student).predict(image, threshold).drawing

    assert drawing.shape == pixels.shape
    rows, columns = np.nonzero((drawing != pixels).any(axis=-1))
    left, top, right, bottom = instances.bboxes[0].tolist()
    assert (rows.min(), columns.min()) == pytest.approx((top, left), abs=5)
    assert rows.max() == pytest.approx(bottom, abs=5)
    assert columns.max() == pytest.approx(right, abs=5)


def test_masks_are_drawn(tmp_path):
    image = write_image(tmp_path / 'image.png', 240, 320)
    changed = {}
    for model in (mask_rcnn, _without_masks):
        student = write_detector(tmp_path / model.__name__, model())
        drawing = build(student).predict(image, 0.0).drawing
        changed[model] = (drawing != mmcv.imread(image)[..., ::-1]).any(axis=-1).sum()

    assert changed[mask_rcnn] > changed[_without_masks] > 0


def _without_masks() -> dict:
    cfg = dict(mask_rcnn(), type='mmdet.FasterRCNN')
    cfg['roi_head'].update(mask_head=None, mask_roi_extractor=None)
    return cfg


def test_nothing_above_the_threshold_leaves_the_image_as_it_is(tmp_path):
    image = write_image(tmp_path / 'image.png')

    found, drawing = build(write_detector(tmp_path)).predict(image)

    assert found == 'nothing above a score of 0.3'
    expected = as_drawn(mmcv.imread(image)[..., ::-1], times=2)
    np.testing.assert_array_equal(drawing, expected)


def test_a_palette_with_too_few_colours_is_left_out(tmp_path):
    predictor = build(write_detector(tmp_path))

    predictor.set_meta(dict(classes=CLASSES, palette=[(0, 0, 255)]))

    predictor.predict(write_image(tmp_path / 'image.png'), 0.0)
    assert predictor.model.dataset_meta['palette'] == 'random'


def test_the_palette_of_the_data_set_is_used(tmp_path):
    blue, green, black = (0, 0, 255), (0, 255, 0), (0, 0, 0)
    predictor = build(write_detector(tmp_path))
    image = write_image(tmp_path / 'image.png')
    one, other = (
        predictor.set_meta(dict(classes=CLASSES, palette=palette))
        or predictor.predict(image, 0.0).drawing
        for palette in ([blue] * 3, [green, green, black])
    )

    assert (one != other).any()


def test_panoptic_segments_are_counted(tmp_path):
    ids = torch.tensor([[[0, INSTANCE_OFFSET, 1, len(CLASSES)]]])  # The last is no class.
    sample = DetDataSample(pred_panoptic_seg=PixelData(sem_seg=ids))

    found = build(write_detector(tmp_path)).describe(sample, 0.3)

    assert found == '2 cat, 1 dog'


def test_no_annotations_are_loaded(tmp_path):
    """Those of panoptic data cannot even be built without a package that a drawing needs not."""
    student = write_detector(tmp_path)
    cfg = student.read()
    cfg.test_dataloader.dataset.pipeline[2] = dict(type='LoadPanopticAnnotations')

    predictor = build_predictor(cfg, str(student.checkpoint), 'cpu')

    assert len(predictor.inferencer.pipeline.transforms) == 3
