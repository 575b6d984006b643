"""Tiny distillers with their configs, checkpoints and teachers in files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from reviewkd_mm.registry import MODELS
from tests.inference.students import ARRAY_PIPELINE, DETECTION_PIPELINE
from tests.integration.detection import CAFFE, retinanet
from tests.models.distillers.helpers import (
    build,
    classifier,
    distiller_cfg,
    review,
    teacher_classifier,
)

# Means that differ by channel and by model, so that the order of channels and whose means they
# are matter.
STUDENT_PIXELS = dict(mean=[200.0, 100.0, 0.0], std=[60.0, 60.0, 60.0])
TEACHER_PIXELS = dict(mean=[20.0, 90.0, 150.0], std=[50.0, 60.0, 70.0])
CROP = dict(type='RandomCrop', crop_size=32, padding=4)


class Pair(NamedTuple):
    """Files of a distillation: its config and checkpoint, and the teacher's checkpoint."""

    config: Path
    checkpoint: Path
    teacher: Path

    def read(self) -> Config:
        return Config.fromfile(self.config)

    def student_of(self, checkpoint: Path | None = None) -> torch.nn.Module:
        """Build the student by itself, with the weights of a checkpoint of the distiller's."""
        saved = torch.load(checkpoint or self.checkpoint)['state_dict']
        student = build(self.read().model.student).eval()
        student.load_state_dict(
            {k.partition('.')[2]: v for k, v in saved.items() if k.startswith('student.')}
        )
        return student

    def teacher_alone(self) -> torch.nn.Module:
        """Build the teacher by itself."""
        teacher = build(self.read().model.teacher).eval()
        teacher.load_state_dict(torch.load(self.teacher))
        return teacher


def write_classifiers(folder: Path, **transfers: dict) -> Pair:
    """Write the files of a distilled classifier; other transfers replace that of ReviewKD."""
    dataset = dict(
        type='CustomDataset',
        data_root='none',
        metainfo=dict(classes=('ant', 'bee', 'cow', 'doe', 'elk')),
        pipeline=ARRAY_PIPELINE,
    )
    student = classifier(data_preprocessor=STUDENT_PIXELS)
    teacher = teacher_classifier(data_preprocessor=TEACHER_PIXELS)
    transfers = transfers or dict(review=review())
    return _write(folder, 'mmpretrain', student, teacher, transfers, dataset)


def write_detectors(folder: Path) -> Pair:
    """Write the files of a distilled RetinaNet, whose teacher is of Caffe's normalisation."""
    dataset = dict(
        type='CocoDataset',
        ann_file='none.json',
        metainfo=dict(classes=('cat', 'dog', 'owl')),
        pipeline=DETECTION_PIPELINE,
    )
    student, teacher = retinanet(), retinanet(width=8, channels=16)
    teacher['data_preprocessor'].update(CAFFE)
    transfers = dict(review=review(student='neck', teacher='neck'))
    return _write(folder, 'mmdet', student, teacher, transfers, dataset)


def _write(
    folder: Path, scope: str, student: dict, teacher: dict, transfers: dict, dataset: dict
) -> Pair:
    folder.mkdir(exist_ok=True, parents=True)
    pair = Pair(folder / 'training.py', folder / 'trained.pth', folder / 'teacher.pth')
    torch.save(build(ConfigDict(teacher), seed=1).state_dict(), pair.teacher)
    model = distiller_cfg(
        student=student, teacher=teacher, teacher_ckpt=str(pair.teacher), transfers=transfers
    )
    cfg = dict(
        default_scope=scope,
        model=model,
        train_dataloader=dict(dataset=dict(pipeline=[CROP])),
        test_dataloader=dict(dataset=dataset),
    )
    # Formatting takes longer than all the rest.
    Config(cfg, format_python_code=False).dump(pair.config)
    save_distiller(pair, pair.checkpoint, seed=2)
    return pair


def save_distiller(pair: Pair, file: Path, seed: int) -> Path:
    """Save a checkpoint of the distiller with random weights."""
    cfg = pair.read()
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        distiller = MODELS.build(cfg.model)
        distiller.init_weights()
    with torch.no_grad():
        for name, parameter in distiller.transfers.named_parameters():
            # What differs by stage and by map, as after a training.
            if 'att_conv' in name:
                parameter.normal_()
    torch.save(dict(meta={}, state_dict=distiller.state_dict()), file)
    return file
