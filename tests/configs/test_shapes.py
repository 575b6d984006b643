"""The shapes configs agree with the generated data and with each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from reviewkd_mm.datasets.shapes import CLASSES
from tests.configs.reading import CONFIGS, FILES, name_of

SHAPES = [file for file in FILES if file.stem.endswith('_shapes')]
PAIRS = [file for file in SHAPES if file.parent.name == 'reviewkd']


@pytest.mark.parametrize('file', PAIRS, ids=name_of)
def test_a_pair_trains_its_baselines_student_on_its_baselines_data(file):
    cfg = Config.fromfile(file)
    detector, teacher, student, _ = file.stem.split('_')
    baseline = Config.fromfile(CONFIGS / 'baselines' / f'{detector}_{student}_shapes.py')

    assert cfg.model.student == baseline.model
    for key in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler'):
        assert cfg[key] == baseline[key]
    assert Path(cfg.model.teacher).stem == f'{detector}_{teacher}_shapes'


@pytest.mark.parametrize('file', SHAPES, ids=name_of)
def test_the_classes_are_the_generated_ones(file):
    assert tuple(Config.fromfile(file).coco_data.classes) == CLASSES
