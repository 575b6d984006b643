"""The exported detector: MMDetection's config with the stand-in for the compiled ops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from reviewkd_mm.config.files import config_root
from reviewkd_mm.export.student import build_student, export_student, student_config
from tests.integration.detection import raw_batch, retinanet
from tests.models.distillers.helpers import (
    batch,
    build_distiller,
    classifier,
    distiller_cfg,
    review,
    runner_cfg,
)
from tests.numbers import assert_close64

ROOT = Path(__file__).resolve().parents[2]
OPS = 'reviewkd_mm.mmcv_ops'
NOWHERE = dict(teacher='/nowhere/teacher.py', teacher_ckpt='/nowhere/teacher.pth')
# What somebody runs who has the exported files and knows nothing of distillation.
STOCK_SCRIPT = """
import sys, torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
folder, *names = sys.argv[1:]
for name in names:
    cfg = Config.fromfile(f'{folder}/{name}.py')
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    if name == 'detector':  # All of it is MMDetection's; the classifier's backbone is ours.
        assert not [module for module in sys.modules if module.startswith('reviewkd_mm.models')]
    load_checkpoint(model, f'{folder}/{name}.pth', map_location='cpu', strict=True)
    inputs = torch.load(f'{folder}/inputs.pth')
    with torch.no_grad():
        torch.save(model.double().eval()(inputs, mode='tensor'), f'{folder}/{name}_outputs.pth')
"""


def test_a_detector_in_a_training_of_classifiers_needs_the_ops_too(tmp_path):
    cfg = runner_cfg(distiller_cfg(student=retinanet(), **NOWHERE), tmp_path)

    stock = student_config(cfg)

    assert stock.custom_imports.imports == [OPS]
    assert type(build_student(stock)).__name__ == 'RetinaNet'


def detection_config(folder: Path, model: str) -> Config:
    """Config in a file that inherits RetinaNet from MMDetection's zoo."""
    path = folder / 'training.py'
    path.write_text(f"_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py']\n{model}")
    return Config.fromfile(path)


def test_a_detectors_config_is_the_zoos_with_the_stand_in_for_the_ops(tmp_path):
    zoo = detection_config(tmp_path, '')
    cfg = detection_config(
        tmp_path,
        'model = dict(_delete_=True, type="reviewkd_mm.Distiller", student=_base_.model,'
        'teacher="/nowhere.py", transfers=dict(review=dict(student="neck", teacher="neck")))',
    )

    stock = student_config(cfg)._cfg_dict.to_dict()

    assert stock.pop('custom_imports') == dict(imports=[OPS], allow_failed_imports=False)
    expected = zoo._cfg_dict.to_dict()
    for key in ('load_from', 'resume'):
        del expected[key]
    assert stock == expected


def test_a_detector_of_the_zoo_by_path(tmp_path):
    path = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
    cfg = detection_config(
        tmp_path,
        'model = dict(_delete_=True, type="reviewkd_mm.Distiller", '
        f'student="{path}", teacher="/nowhere.py", transfers=dict())',
    )

    stock = student_config(cfg)

    zoo = Config.fromfile(config_root('mmdet') / path.partition('::')[2])
    assert stock.model == zoo.model


def test_exported_detector_predicts_the_same(tmp_path):
    distiller = build_distiller(
        student=retinanet(),
        teacher=retinanet(width=6),
        transfers=dict(review=review(student='neck', teacher='neck')),
    ).eval()
    cfg = runner_cfg(
        distiller_cfg(student=retinanet(), **NOWHERE), tmp_path, default_scope='mmdet'
    )
    torch.save(distiller.state_dict(), tmp_path / 'trained.pth')

    exported = build_student(student_config(cfg), str(tmp_path / 'trained.pth')).eval()

    with torch.no_grad():
        actual, expected = (m.test_step(raw_batch()) for m in (exported, distiller))
    for one, other in zip(actual, expected, strict=True):
        assert len(other.pred_instances.scores) == 10
        assert torch.equal(one.pred_instances.scores, other.pred_instances.scores)


def test_exported_models_run_where_nothing_of_this_is_imported(tmp_path):
    inputs = batch(2, size=64)[0].double()
    torch.save(inputs, tmp_path / 'inputs.pth')
    taps = dict(detector=dict(student='neck', teacher='neck'), classifier={})
    expected = {}
    for name, student in (('detector', retinanet()), ('classifier', classifier())):
        distiller = build_distiller(
            student=student, teacher=student, transfers=dict(review=review(**taps[name]))
        ).eval()
        torch.save(distiller.state_dict(), tmp_path / 'trained.pth')
        scope = student['type'].partition('.')[0]
        cfg = runner_cfg(distiller_cfg(student=student, **NOWHERE), tmp_path, default_scope=scope)
        export_student(cfg, tmp_path / 'trained.pth', tmp_path / f'{name}.pth')
        with torch.no_grad():
            expected[name] = distiller.double()(inputs, mode='tensor')

    command = [sys.executable, '-c', STOCK_SCRIPT, str(tmp_path), *expected]
    subprocess.run(command, cwd=ROOT, check=True, timeout=180)

    for name, outputs in expected.items():
        actual = torch.load(tmp_path / f'{name}_outputs.pth')
        assert_close64(actual, outputs)


@pytest.mark.parametrize(
    ('given', 'imports', 'allow_failed'),
    [
        (None, [OPS], False),
        (dict(imports=['json']), [OPS, 'json'], False),
        (dict(imports='json', allow_failed_imports=True), [OPS, 'json'], True),
        (dict(imports=['json', OPS], allow_failed_imports=False), ['json', OPS], False),
    ],
)
def test_imports_of_a_detectors_config_are_kept(tmp_path, given, imports, allow_failed):
    model = distiller_cfg(student=retinanet(), **NOWHERE)
    cfg = runner_cfg(model, tmp_path, default_scope='mmdet', custom_imports=given)

    expected = dict(imports=imports, allow_failed_imports=allow_failed)
    assert student_config(cfg).custom_imports == expected
