"""The shapes configs train, validate and export through a Runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from reviewkd_mm.cli import load_config
from reviewkd_mm.config import is_distiller
from reviewkd_mm.datasets.shapes import CLASSES, write_shapes
from reviewkd_mm.engine.student_export import build_student
from tests.configs.reading import CONFIGS, FILES, name_of

SHAPES = [file for file in FILES if file.stem.endswith('_shapes')]
PAIRS = [file for file in SHAPES if file.parent.name == 'reviewkd']


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    return write_shapes(folder, num_train=8, num_val=3, noise=0)


def configure(file: Path, data: Path, work_dir: Path) -> Config:
    """Return a config of two iterations and a validation, with an untrained teacher."""
    options: dict[str, Any] = {
        'coco_data.data_root': f'{data}/',
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 1,
        'work_dir': str(work_dir),
        'randomness.seed': 0,
    }
    if file in PAIRS:
        options['model.teacher_ckpt'] = 'random'
    return load_config(str(file), options)


@pytest.mark.parametrize('file', SHAPES, ids=name_of)
def test_a_config_trains_and_validates(file, data, tmp_path):
    runner = Runner.from_cfg(configure(file, data, tmp_path))

    runner.train()

    # The teacher sees the 8 images, 4 in a step, twice.
    assert runner.iter == (4 if file.stem == 'mask-rcnn_r18_shapes' else 2)
    scalars = runner.message_hub.log_scalars
    for metric in ('bbox_mAP', 'segm_mAP'):
        assert 0 <= scalars[f'val/coco/{metric}'].current() <= 1
    assert ('train/loss_review' in scalars) == is_distiller(runner.cfg.model)
    if file in PAIRS:
        stock = Config.fromfile(tmp_path / 'student_last.py')
        assert stock.val_dataloader.dataset.type == 'CocoDataset'
        assert stock.custom_imports.imports == ['reviewkd_mm.mmcv_ops']
        assert stock.dump().count('reviewkd_mm') == 1
        build_student(stock, str(tmp_path / 'student_last.pth'))


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
