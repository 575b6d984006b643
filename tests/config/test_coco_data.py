"""``coco_data`` on the heads that tell things from stuff, and on those of DETR's kind."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from reviewkd_mm.config import read_config, resolve_coco_data
from reviewkd_mm.datasets.shapes import CLASSES, write_shapes
from tests.config.test_files import PETS, dataset, detector
from tests.configs.running import brief

SIDE = 64
LOAD = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(SIDE, SIDE))]
MASKS = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
PIPELINE = [LOAD[0], MASKS, LOAD[1], dict(type='PackDetInputs')]
TEST_PIPELINE = [*LOAD, MASKS, dict(type='PackDetInputs', meta_keys=META)]
# What a config of panoptic data needs for instances.
INSTANCES = f"""
train_dataloader = dict(dataset=dict(type='CocoDataset', pipeline={PIPELINE}))
val_dataloader = dict(dataset=dict(type='CocoDataset', pipeline={TEST_PIPELINE}))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='CocoMetric', metric='segm', ann_file='')
test_evaluator = val_evaluator
student.test_cfg.update(panoptic_on=False, instance_on=True)
"""
DISTILLER = """
_base_ = 'mmdet::{base}'
custom_imports = dict(imports=['reviewkd_mm.mmcv_ops'], allow_failed_imports=False)
student = _base_.model
stages = ['backbone.layer1', 'backbone.layer4']
compare = dict(connector=dict(type='ReviewConnector'), loss=dict(type='HCLLoss'))
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=student,
    teacher='mmdet::{base}',
    transfers=dict(review=dict(student=stages, teacher=stages, **compare)),
)
coco_data = {setting!r}
"""


def panoptic(weights: list[float], **kwargs: Any) -> Config:
    """Config of a detector like Mask2Former, of 80 things and 53 kinds of stuff."""
    counts = dict(num_things_classes=80, num_stuff_classes=53)
    head = dict(type='Head', **counts, loss_cls=dict(class_weight=weights))
    return detector(model=dict(panoptic_head=head, panoptic_fusion_head=dict(counts)), **kwargs)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ([1.0] * 133 + [0.1], [1.0, 1.0, 0.1]),
        ([2.0] * 133, [2.0, 2.0]),
        ([1.0, 3.0, 0.2], [1.0, 3.0, 0.2]),
    ],
    ids=['with background', 'without', 'of my own'],
)
def test_all_classes_are_things_and_weights_become_as_many(given, expected):
    model = resolve_coco_data(panoptic(given)).model

    for head in (model.panoptic_head, model.panoptic_fusion_head):
        assert (head.num_things_classes, head.num_stuff_classes) == (2, 0)
    assert model.panoptic_head.loss_cls.class_weight == expected


def test_weights_of_other_classes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r'coco_data: Head\.loss_cls: class_weight=.* 2 classes'):
        resolve_coco_data(panoptic([1.0, 2.0] * 40 + [1.0] * 53 + [0.1]))


def test_a_panoptic_data_set_is_refused():
    panoptic_data = dict(dataset(), type='CocoPanopticDataset')
    cfg = panoptic([1.0] * 134, train_dataloader=dict(dataset=panoptic_data))

    with pytest.raises(ValueError, match=re.escape('train_dataloader.dataset is a CocoPanoptic')):
        resolve_coco_data(cfg)


@pytest.mark.parametrize(
    'file',
    ['detr/detr_r50_8xb2-150e_coco.py', 'dino/dino-4scale_r50_8xb2-12e_coco.py'],
)
def test_a_head_of_detrs_kind_gets_the_classes(tmp_path, file):
    (tmp_path / 'pets.py').write_text(f"_base_ = 'mmdet::{file}'\ncoco_data = {PETS!r}\n")

    cfg = read_config(tmp_path / 'pets.py')

    assert cfg.model.bbox_head.num_classes == 2


@pytest.mark.parametrize(
    ('base', 'more'),
    [
        ('mask2former/mask2former_r50_8xb2-lsj-50e_coco.py', ''),
        ('maskformer/maskformer_r50_ms-16xb1-75e_coco.py', INSTANCES),
    ],
    ids=['Mask2Former', 'MaskFormer'],
)
def test_a_student_trains_and_validates_on_classes_of_its_own(tmp_path, base, more):
    cfg = brief(_write_config(tmp_path, base, more), tmp_path / 'run')
    cfg.train_dataloader.dataset.pipeline = PIPELINE
    cfg.val_dataloader.dataset.pipeline = TEST_PIPELINE
    cfg.train_dataloader.batch_size = 2
    student = cfg.model.student
    student.test_cfg.max_per_image = 10  # Of a shrunken number of queries.
    for augment in student.data_preprocessor.get('batch_augments') or ():
        augment['size'] = (SIDE, SIDE)

    runner = Runner.from_cfg(cfg)
    runner.train()

    head, teacher = runner.model.panoptic_head, runner.model.teacher.panoptic_head
    assert (head.num_classes, head.cls_embed.out_features) == (3, 4)
    assert teacher.num_classes in (80, 133)
    logged = runner.message_hub.log_scalars
    assert all(math.isfinite(loss) for loss in logged['train/loss'].data[0])
    assert 'val/coco/segm_mAP' in logged


def _write_config(folder: Path, base: str, more: str) -> Path:
    data_root = write_shapes(folder / 'shapes', num_train=4, num_val=1)
    files = {
        split: dict(
            ann_file=f'annotations/instances_{split}.json', data_prefix=dict(img=f'{split}/')
        )
        for split in ('train', 'val')
    }
    setting = dict(classes=CLASSES, data_root=f'{data_root}/', **files)
    file = folder / 'shapes.py'
    file.write_text(DISTILLER.format(base=base, setting=setting) + more)
    return file
