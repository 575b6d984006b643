"""The paper's COCO pairs: their settings, and a training of one on data of its own."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from reviewkd_mm.config import read_config
from reviewkd_mm.datasets.shapes import CLASSES, write_shapes
from reviewkd_mm.models.distillers.model_source import read_source
from reviewkd_mm.registry import MODELS
from tests.configs.reading import CONFIGS, read
from tests.configs.running import brief

# Teacher's and student's backbone, feature loss weight, box AP of the teacher by its metafile.
PAIRS = {
    'retinanet_r101_r50_coco': (101, 50, 1.0, 41.0),
    'faster-rcnn_r101_r18_coco': (101, 18, 1.2, 41.8),
    'faster-rcnn_r101_r50_coco': (101, 50, 1.0, 41.8),
    'faster-rcnn_r50_mbv2_coco': (50, 'MobileNetV2', 2.0, 40.3),
    'mask-rcnn_r101_r18_coco': (101, 18, 1.5, 42.7),
    'mask-rcnn_r101_r50_coco': (101, 50, 0.8, 42.7),
    'mask-rcnn_r50_mbv2_coco': (50, 'MobileNetV2', 1.0, 40.9),
}
WEIGHTS = {
    18: 'torchvision://resnet18',
    50: 'torchvision://resnet50',
    'MobileNetV2': 'open-mmlab://mmdet/mobilenet_v2',
}
FPN_INPUTS = {
    18: [64, 128, 256, 512],
    50: [256, 512, 1024, 2048],
    'MobileNetV2': [24, 32, 96, 320],
}
PAIR = 'faster-rcnn_r50_mbv2_coco'
IMAGE_SIDE = 96


def config_of(name: str) -> Config:
    return read_config(CONFIGS / 'reviewkd' / f'{name}.py')


@pytest.mark.parametrize('name', PAIRS)
def test_a_pair_is_the_papers(name):
    teacher_depth, student_kind, weight, _ = PAIRS[name]
    cfg = config_of(name)
    student, review = cfg.model.student, cfg.model.transfers.review
    teacher = read_source('teacher', cfg.model.teacher)

    assert (review.student, review.teacher) == ('neck', 'neck')
    assert review.loss == dict(type='HCLLoss', loss_weight=weight)
    assert review.connector == dict(type='ReviewConnector', mid_channels=256)
    assert 'warmup_epochs' not in review
    assert teacher.cfg['backbone']['depth'] == teacher_depth
    assert student.backbone.get('depth', student.backbone.type) == student_kind
    assert student.backbone.init_cfg.checkpoint == WEIGHTS[student_kind]
    assert student.neck.in_channels == FPN_INPUTS[student_kind]
    assert (
        student.type.replace('_', '').lower().startswith(name.partition('_')[0].replace('-', ''))
    )


@pytest.mark.parametrize('name', PAIRS)
def test_a_teacher_is_the_zoos_3x_checkpoint(name):
    source = read_source('teacher', config_of(name).model.teacher)

    assert source.checkpoint.startswith('https://')
    assert '3x_coco' in source.checkpoint


@pytest.mark.parametrize('name', PAIRS)
def test_a_pair_runs_the_papers_schedule(name):
    cfg = config_of(name)
    _, resize = cfg.train_dataloader.dataset.pipeline[1:3]
    steps = cfg.param_scheduler[-1]

    assert cfg.train_cfg.max_iters == 90_000
    assert (steps.milestones, steps.gamma, steps.by_epoch) == ([60_000, 80_000], 0.1, False)
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD',
        lr=0.01 if name.startswith('retinanet') else 0.02,
        momentum=0.9,
        weight_decay=0.0001,
    )
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert resize.scales == [(1333, side) for side in (640, 672, 704, 736, 768, 800)]


@pytest.mark.parametrize('name', PAIRS)
def test_a_pair_trains_the_student_of_its_baseline(name):
    cfg = config_of(name)
    detector, _, student, _ = name.split('_')
    alone = read_config(CONFIGS / 'baselines' / f'{detector}_{student}_coco.py')

    assert cfg.model.student == alone.model
    keys = ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg')
    for key in (*keys, 'find_unused_parameters'):
        assert cfg.get(key) == alone.get(key)


def test_a_pair_trains_and_validates_on_data_of_its_own(tmp_path):
    data_root = write_shapes(tmp_path / 'shapes', num_train=4, num_val=1)
    child = tmp_path / f'{PAIR}_shapes.py'
    files = {
        split: dict(
            ann_file=f'annotations/instances_{split}.json', data_prefix=dict(img=f'{split}/')
        )
        for split in ('train', 'val')
    }
    setting = dict(classes=CLASSES, data_root=f'{data_root}/', **files)
    base = CONFIGS / 'reviewkd' / f'{PAIR}.py'
    child.write_text(f'_base_ = {str(base)!r}\ncoco_data = {setting!r}\n')
    cfg = brief(child, tmp_path / 'run')
    cfg.train_dataloader.dataset.pipeline[2].scales = [(IMAGE_SIDE, IMAGE_SIDE)]
    cfg.val_dataloader.dataset.pipeline[1].scale = (IMAGE_SIDE, IMAGE_SIDE)

    runner = Runner.from_cfg(cfg)
    runner.train()

    logged = runner.message_hub.log_scalars
    losses = logged['train/loss_review'].data[0]
    assert len(losses) == 2
    assert all(0 < loss < float('inf') for loss in losses)
    metrics = {key for key in logged if key.endswith('_mAP')}
    assert metrics == {'val/coco/bbox_mAP'}
    saved = torch.load(tmp_path / 'run' / 'iter_2.pth', weights_only=False)['state_dict']
    assert {key.partition('.')[0] for key in saved} == {'student', 'transfers'}


@pytest.mark.parametrize('name', PAIRS)
def test_a_students_batch_norm_is_frozen_scale_and_shift_included(name):
    student = read(CONFIGS / 'reviewkd' / f'{name}.py').model.student
    with torch.device('meta'):
        backbone = MODELS.root.build(dict(student.backbone, init_cfg=None))
    backbone.train()
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]

    assert norms
    assert not any(norm.training for norm in norms)
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())
    assert any(p.requires_grad for p in backbone.parameters())
