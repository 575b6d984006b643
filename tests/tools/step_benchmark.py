"""What the tests of the benchmark of a distillation step share."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tests.integration.detection import retinanet
from tests.models.distillers.helpers import WIDE, classifier, distiller_cfg, logits, review

BENCHMARKS = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks'


def load(name: str) -> ModuleType:
    """Import a module of the benchmark, which finds the others beside itself."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.insert(0, str(BENCHMARKS))
    return import_module(name)


def write_classifiers(folder: Path, **kwargs: object) -> str:
    """Write a tiny pair that compares logits, too; keyword arguments replace keys."""
    transfers = dict(review=review(loss=dict(type='HCLLoss', loss_weight=3.0)), kd=logits())
    model = distiller_cfg(student=classifier(WIDE), transfers=transfers, **kwargs)
    file = folder / 'classifiers.py'
    file.write_text(f"default_scope = 'mmpretrain'\nmodel = {model!r}\n")
    return str(file)


def write_detectors(folder: Path) -> str:
    """Write a tiny pair, its student with weights that would have to be downloaded."""
    student = retinanet()
    student['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='torchvision://resnet18')
    student['backbone']['frozen_stages'] = 1
    model = distiller_cfg(
        student=student,
        teacher=retinanet(width=6, channels=12),
        teacher_ckpt='weights/of/a/teacher.pth',
        transfers=dict(review=review(student='neck', teacher='neck')),
    )
    file = folder / 'detectors.py'
    file.write_text(f"default_scope = 'mmdet'\nmodel = {model!r}\n")
    return str(file)
