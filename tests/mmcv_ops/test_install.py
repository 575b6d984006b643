"""The stand-in as a module, and when it is put in place of ``mmcv._ext``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import mmcv.ops
import pytest
import torch
from torch import Tensor

from reviewkd_mm import mmcv_ops
from tests.mmcv_ops.references import random_boxes, reference_nms

REPOSITORY = Path(__file__).parents[2]


def test_a_missing_op_is_named_when_called(stand_in: mmcv_ops.StandIn) -> None:
    boxes, scores = random_boxes(3), torch.rand(3)
    with pytest.raises(RuntimeError, match=r"'softnms'.*pip install .*--no-build-isolation"):
        mmcv.ops.soft_nms(boxes, scores)
    assert callable(stand_in.deform_conv_forward)
    with pytest.raises(RuntimeError, match="'deform_conv_forward'"):
        stand_in.deform_conv_forward(boxes, offset=scores)


def test_the_stand_in_has_no_made_up_private_names(stand_in: mmcv_ops.StandIn) -> None:
    with pytest.raises(AttributeError, match=r"'mmcv\._ext' has no attribute '__path__'"):
        _ = stand_in.__path__


def test_the_stand_in_can_be_looked_up(stand_in: mmcv_ops.StandIn) -> None:
    spec = importlib.util.find_spec('mmcv._ext')
    assert spec is stand_in.__spec__
    assert (spec.name, spec.origin) == ('mmcv._ext', 'reviewkd_mm.mmcv_ops')


def fake_extension(nms: Any) -> ModuleType:
    ext = ModuleType('mmcv._ext')
    ext.nms = nms
    return ext


def reference_extension_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    return torch.tensor(reference_nms(boxes, scores, iou_threshold, offset))


def test_a_working_extension_is_left_alone(put_under_mmcv: Callable[[ModuleType], None]) -> None:
    healthy = fake_extension(reference_extension_nms)
    put_under_mmcv(healthy)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert mmcv_ops.install() is healthy
    assert sys.modules['mmcv._ext'] is mmcv._ext is healthy
    assert sys.modules['mmcv.ops.nms'].ext_module is healthy


def test_installing_twice_keeps_the_first_stand_in(stand_in: mmcv_ops.StandIn) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert mmcv_ops.install() is stand_in


@pytest.mark.parametrize(
    ('nms', 'message'),
    [
        (Mock(side_effect=RuntimeError('nms_impl: no such device')), 'nms_impl: no such device'),
        (Mock(return_value=torch.tensor([0, 1])), r'nms kept \[0, 1\] of two equal boxes'),
        (None, "'NoneType' object is not callable"),
    ],
    ids=['raises', 'wrong result', 'no function'],
)
def test_an_extension_that_fails_is_replaced(
    put_under_mmcv: Callable[[ModuleType], None], nms: Any, message: str
) -> None:
    put_under_mmcv(fake_extension(nms))
    with pytest.warns(UserWarning, match=rf'do not work with torch .*{message}.*pip install'):
        ext = mmcv_ops.install()
    assert isinstance(ext, mmcv_ops.StandIn)
    assert sys.modules['mmcv._ext'] is mmcv._ext is ext
    dets, kept = mmcv.ops.nms(torch.tensor([[0.0, 0, 4, 4]] * 2), torch.tensor([0.1, 0.2]), 0.5)
    assert kept.tolist() == [1]
    assert dets.shape == (1, 5)


class FailingFinder:
    """Finds ``mmcv._ext`` and fails to load it, as the dynamic linker may."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == 'mmcv._ext':
            raise self.error


@pytest.mark.parametrize(
    'error',
    [
        ImportError('_ext.so: undefined symbol: _ZN2at4_ops'),
        OSError('libcudart.so.11.0: cannot open shared object file'),
        ModuleNotFoundError("No module named 'needed_by_ext'", name='needed_by_ext'),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_extension_that_cannot_be_loaded_is_replaced(
    monkeypatch: pytest.MonkeyPatch, stand_in: mmcv_ops.StandIn, error: Exception
) -> None:
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    monkeypatch.setattr(sys, 'meta_path', [FailingFinder(error), *sys.meta_path])
    with pytest.warns(UserWarning, match='torchvision') as caught:
        ext = mmcv_ops.install()
    assert str(error) in str(caught[0].message)
    assert isinstance(ext, mmcv_ops.StandIn)
    assert ext is not stand_in
    assert sys.modules['mmcv._ext'] is ext


def test_a_missing_extension_is_replaced_silently(
    monkeypatch: pytest.MonkeyPatch, stand_in: mmcv_ops.StandIn
) -> None:
    missing = ModuleNotFoundError("No module named 'mmcv._ext'", name='mmcv._ext')
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    monkeypatch.setattr(sys, 'meta_path', [FailingFinder(missing), *sys.meta_path])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        ext = mmcv_ops.install()
    assert isinstance(ext, mmcv_ops.StandIn)
    assert ext is not stand_in


FRESH_INTERPRETER = """
import sys
sys.modules['mmcv._ext'] = None  # as where MMCV has no compiled ops
import mmdet.structures.mask as masks
import numpy as np, torch

import reviewkd_mm.mmcv_ops

# imported before the ops were there, all the same MMDetection can crop masks
whole = masks.BitmapMasks(np.ones((1, 8, 8), dtype=np.uint8), 8, 8)
crop = whole.crop_and_resize(np.array([[0, 0, 4, 4]], dtype=np.float32), (2, 2), np.array([0]))
assert crop.masks.tolist() == [[[1, 1], [1, 1]]], crop.masks

import mmcv.ops, mmdet.models, mmpretrain.models
from mmcv.utils import collect_env
from mmengine.utils.dl_utils import mmcv_full_available
assert mmcv_full_available()
assert all(hasattr(mmcv.ops, name) for name in mmcv.ops.__all__)
assert isinstance(mmcv._ext, reviewkd_mm.mmcv_ops.StandIn)
assert collect_env()['MMCV Compiler'] == 'not compiled'
"""


def test_openmmlab_imports_without_compiled_ops() -> None:
    environment = dict(os.environ, PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS='1')
    finished = subprocess.run(
        [sys.executable, '-c', FRESH_INTERPRETER],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert 'ops' not in finished.stdout + finished.stderr  # no warning about missing ops
