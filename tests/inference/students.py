"""Tiny students with configs, checkpoints and images in files, as the predictors read them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import mmcv
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.visualization import Visualizer

from tests.integration.detection import faster_rcnn, retinanet
from tests.models.distillers.helpers import build, classifier, distiller_cfg, review

CLASSES = ('cat', 'dog', 'owl')
LABELS = ('ant', 'bee', 'cow', 'doe', 'elk')
NOWHERE = dict(teacher='/nowhere/teacher.py', teacher_ckpt='/nowhere/teacher.pth')
DETECTION_PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(96, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
FILE_PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=36, edge='short'),
    dict(type='CenterCrop', crop_size=32),
    dict(type='PackInputs'),
]
GREY = dict(color_type='grayscale', imdecode_backend='pillow', to_float32=True)
ARRAY_PIPELINE = [dict(type='PackInputs')]


class Student(NamedTuple):
    """Files of a training: a distiller's config and checkpoint."""

    config: Path
    checkpoint: Path

    def read(self) -> Config:
        return Config.fromfile(self.config)


def mask_rcnn() -> dict:
    """Config of a shrunken Mask R-CNN."""
    cfg = faster_rcnn()
    cfg['type'] = 'mmdet.MaskRCNN'
    extractor = cfg['roi_head']['bbox_roi_extractor']
    cfg['roi_head'].update(
        mask_roi_extractor=dict(
            extractor, roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0)
        ),
        mask_head=dict(
            type='FCNMaskHead', num_convs=1, in_channels=8, conv_out_channels=8, num_classes=3
        ),
    )
    cfg['test_cfg']['rcnn']['mask_thr_binary'] = 0.5
    return cfg


def write_detector(
    folder: Path, model: dict | None = None, loading: dict | None = None
) -> Student:
    """Write the files of a distilled detector, whose checkpoint names its classes."""
    pipeline = [dict(DETECTION_PIPELINE[0], **(loading or {})), *DETECTION_PIPELINE[1:]]
    dataset = dict(type='CocoDataset', ann_file='none.json', pipeline=pipeline)
    meta = dict(dataset_meta=dict(CLASSES=CLASSES))
    taps = dict(student='neck', teacher='neck')
    return _write(folder, model or retinanet(), 'mmdet', dataset, taps, meta)


def write_classifier(
    folder: Path, pipeline: list[dict], backbone: dict | None = None, **pixels: object
) -> Student:
    """Write the files of a distilled classifier, whose config names its classes."""
    # Means that differ by channel, so that the order of the channels matters.
    preprocessor = dict(dict(mean=[200.0, 100.0, 0.0], std=[60.0, 60.0, 60.0]), **pixels)
    model = classifier(data_preprocessor=preprocessor)
    model['backbone'] = backbone or model['backbone']
    dataset = dict(
        type='CustomDataset',
        data_root='none',
        metainfo=dict(classes=LABELS),
        pipeline=pipeline,
    )
    return _write(folder, model, 'mmpretrain', dataset, {}, meta={})


def _write(
    folder: Path, model: dict, scope: str, dataset: dict, taps: dict, meta: dict
) -> Student:
    crop = dict(type='RandomCrop', crop_size=32, padding=4)
    distiller = distiller_cfg(
        student=model, transfers=dict(review=review(**taps)), data_preprocessor=None, **NOWHERE
    )
    cfg = dict(
        default_scope=scope,
        model=distiller,
        train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(pipeline=[crop]))),
        test_dataloader=dict(dataset=dataset),
    )
    folder.mkdir(exist_ok=True, parents=True)
    # Formatting takes longer than all the rest.
    Config(cfg, format_python_code=False).dump(folder / 'training.py')
    weights = build(ConfigDict(model)).state_dict()
    weights = {f'student.{name}': value for name, value in weights.items()}
    weights['transfers.review.connector.weight'] = torch.zeros(1)
    torch.save(dict(meta=meta, state_dict=weights), folder / 'trained.pth')
    return Student(folder / 'training.py', folder / 'trained.pth')


def write_image(file: Path, height: int = 60, width: int = 80, seed: int = 0) -> Path:
    """Write a smooth random image in colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    mmcv.imwrite(mmcv.imresize(coarse, (width, height)), str(file))
    return file


def as_drawn(pixels: np.ndarray, times: int = 1) -> np.ndarray:
    """Return an image (H, W, 3) as MMEngine draws it: some versions of matplotlib resample it."""
    for _ in range(times):
        pixels = Visualizer(image=pixels).get_image()
    return pixels
