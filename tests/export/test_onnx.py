"""A student as an ONNX file: what it holds, and what ONNX Runtime makes of it."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from reviewkd_mm.export import onnx as onnx_export
from reviewkd_mm.export.onnx import RawOutputs, export_onnx
from reviewkd_mm.models.distillers import Distiller
from tests.export.skip_without_onnx import skip_without_onnx
from tests.integration.detection import mask_rcnn, retinanet
from tests.models.distillers.helpers import (
    PIXELS,
    batch,
    build,
    build_distiller,
    distiller_cfg,
    runner_cfg,
)
from tests.numbers import assert_within_rounding

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = dict(teacher='/nowhere/teacher.py', teacher_ckpt='/nowhere/teacher.pth')
CLASSES = ('cat', 'dog', 'owl', 'fox', 'elk')


def save(seed: int, path: Path) -> Distiller:
    """Write the checkpoint of a distiller whose student's statistics are not the first ones."""
    distiller = build_distiller()
    torch.manual_seed(seed)
    distiller.init_weights()
    distiller.train().loss(*batch())
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=distiller.state_dict(), meta=meta), path)
    return distiller.eval()


@pytest.fixture(scope='module')
def exported(tmp_path_factory) -> SimpleNamespace:
    """A distiller whose student tools/export_onnx.py wrote, and what the tool said."""
    skip_without_onnx()
    folder = tmp_path_factory.mktemp('onnx')
    distiller = save(8, folder / 'trained.pth')
    config = runner_cfg(distiller_cfg(**NOWHERE), folder)
    config.dump(folder / 'training.py')
    tool = ROOT / 'tools' / 'export_onnx.py'
    args = ['training.py', 'trained.pth', 'out/student.onnx', '--image-size', '32', '32']
    done = subprocess.run(
        [sys.executable, str(tool), *args], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(
        distiller=distiller,
        exact=copy.deepcopy(distiller.student).double(),
        folder=folder,
        config=config,
        file=folder / args[2],
        said=done.stdout,
    )


def test_onnx_runtime_gives_the_students_logits(exported):
    runtime = pytest.importorskip('onnxruntime')
    session = runtime.InferenceSession(str(exported.file), providers=['CPUExecutionProvider'])

    for count in (1, 2, 7):
        images, _ = batch(count, seed=count)
        (found,) = session.run(['logits'], {'images': images.numpy()})
        with torch.no_grad():
            plain = exported.distiller(images, mode='tensor')
            exact = exported.exact(images.double(), mode='tensor')
        assert_within_rounding(found, plain, exact)


def test_the_file_is_one_and_says_what_it_reads(exported):
    runtime = pytest.importorskip('onnxruntime')
    session = runtime.InferenceSession(str(exported.file), providers=['CPUExecutionProvider'])

    metadata = session.get_modelmeta().custom_metadata_map
    told = {key: json.loads(metadata[key]) for key in metadata}
    assert told == dict(
        mean=PIXELS['mean'],
        std=PIXELS['std'],
        reversed_channels=False,
        pad_value=0.0,
        classes=list(CLASSES),
    )
    assert [path.name for path in exported.file.parent.iterdir()] == ['student.onnx']
    assert "input:      images ['batch', 3, 32, 32]" in exported.said
    assert 'outputs:    logits' in exported.said


def test_a_file_that_gives_other_outputs_is_refused(exported, tmp_path, monkeypatch):
    """The exporter is made to return the file of other weights."""
    save(9, tmp_path / 'other.pth')

    def keep(path: str, external_data: bool) -> None:
        shutil.copy(exported.file, path)

    program = SimpleNamespace(model=SimpleNamespace(metadata_props={}), save=keep)
    monkeypatch.setattr(onnx_export, '_export', lambda *args: program)
    out = tmp_path / 'new' / 'student.onnx'

    with pytest.raises(
        RuntimeError, match=r'differ from the student.s by .*; nothing was written'
    ):
        export_onnx(exported.config, tmp_path / 'other.pth', out, (32, 32))

    assert not list(out.parent.iterdir())
    assert export_onnx(exported.config, exported.folder / 'trained.pth', out, (32, 32)).path == out


def test_outputs_of_a_detector_have_names():
    model = build(retinanet()).eval()
    raw, images = RawOutputs(model), torch.randn(1, 3, 64, 64)

    with torch.no_grad():
        outputs = raw(images)
        scores, boxes = model.bbox_head(model.extract_feat(images))

    names = [f'{name}_{level}' for name in ('cls_scores', 'bbox_preds') for level in range(5)]
    assert list(outputs) == names
    for output, expected in zip(outputs.values(), (*scores, *boxes), strict=True):
        assert torch.equal(output, expected)
    assert 'NMS' in raw.part


def test_of_two_stages_the_first_is_given():
    model = build(Config(mask_rcnn())._cfg_dict).eval()
    raw, images = RawOutputs(model), torch.randn(1, 3, 64, 64)

    with torch.no_grad():
        outputs = raw(images)
        features = model.extract_feat(images)

    names = ('features', 'rpn_cls_scores', 'rpn_bbox_preds')
    assert list(outputs) == [f'{name}_{level}' for name in names for level in range(5)]
    assert all(torch.equal(outputs[f'features_{i}'], f) for i, f in enumerate(features))
    assert 'RoI heads are left out' in raw.part


def test_an_old_torch_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, 'OLDEST_TORCH', '99.1')

    with pytest.raises(ValueError, match=r'torch 99\.1 or later, found 2'):
        export_onnx(Config(), 'a.pth', tmp_path / 'a.onnx', (32, 32))


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, 'OLDEST_TORCH', torch.__version__)
    monkeypatch.setattr(onnx_export, 'PACKAGES', ('json', 'no_such_package'))

    with pytest.raises(ValueError, match=r'pip install no_such_package$'):
        export_onnx(Config(), 'a.pth', tmp_path / 'a.onnx', (32, 32))


def test_a_student_that_needs_more_than_images_is_refused(tmp_path, monkeypatch):
    save(1, tmp_path / 'trained.pth')
    monkeypatch.setattr(onnx_export, 'check_packages', lambda: None)

    def forward(self: RawOutputs, images: torch.Tensor) -> None:
        raise TypeError("missing 'batch_data_samples'")

    monkeypatch.setattr(RawOutputs, 'forward', forward)
    message = r'ImageClassifier cannot be exported: .* images alone .*batch_data_samples'
    with pytest.raises(RuntimeError, match=message):
        export_onnx(
            runner_cfg(distiller_cfg(**NOWHERE), tmp_path),
            tmp_path / 'trained.pth',
            tmp_path / 'a.onnx',
            (32, 32),
        )
    assert not (tmp_path / 'a.onnx').exists()
