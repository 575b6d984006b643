"""Detectors, and every backbone of the package, as ONNX files of all kinds of sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from reviewkd_mm.export.onnx import OnnxFile, export_onnx
from tests.export.skip_without_onnx import skip_without_onnx
from tests.integration.detection import mask_rcnn, retinanet
from tests.models.distillers.helpers import build, classifier

pytestmark = pytest.mark.stress

# Name, arguments and channels of the last stage.
BACKBONES = [
    ('CIFARResNet', dict(depth=8, base_channels=(8, 8, 16, 32)), 32),
    ('CIFARWideResNet', dict(depth=10, widen_factor=1), 64),
    ('CIFARVGG', dict(depth=8), 512),
    ('CIFARShuffleNetV1', dict(), 960),
    ('CIFARShuffleNetV2', dict(), 1024),
    ('CIFARMobileNetV2', dict(), 1280),
]


@pytest.fixture(scope='module', autouse=True)
def _needs_onnx() -> None:
    skip_without_onnx()


def export(model: dict, folder: Path, scope: str, size: tuple[int, int], **kwargs) -> OnnxFile:
    model = Config(model)._cfg_dict
    torch.save(build(model).state_dict(), folder / 'model.pth')
    cfg = Config(dict(model=model, default_scope=scope))
    return export_onnx(cfg, folder / 'model.pth', folder / 'model.onnx', size, **kwargs)


def test_a_detector_of_one_stage_takes_images_of_any_size(tmp_path):
    file = export(retinanet(), tmp_path, 'mmdet', (96, 128), free_size=True)

    assert file.shape == ['batch', 3, 'height', 'width']
    assert len(file.outputs) == 10


def test_a_fixed_batch_and_size_stay_so(tmp_path):
    file = export(retinanet(), tmp_path, 'mmdet', (64, 96), batch_size=1)

    assert file.shape == [1, 3, 64, 96]


def test_the_first_stage_of_two(tmp_path):
    file = export(mask_rcnn(), tmp_path, 'mmdet', (64, 96))

    assert file.shape == ['batch', 3, 64, 96]
    assert len(file.outputs) == 15


@pytest.mark.parametrize(('name', 'options', 'channels'), BACKBONES, ids=lambda value: str(value))
def test_every_backbone_of_a_classifier(tmp_path, name, options, channels):
    model = classifier(backbone=dict(type=f'reviewkd_mm.{name}', **options))
    model['head']['in_channels'] = channels

    file = export(model, tmp_path, 'mmpretrain', (32, 32))

    assert file.outputs == ['logits']
    assert file.shape == ['batch', 3, 32, 32]
