"""The stand-in for MMCV's compiled ops, against plain references and inside MMDetection.

Nothing here assumes that the compiled ops are missing: fixtures put the stand-in, or a fake
extension, under ``mmcv.ops`` for one test.
"""

from __future__ import annotations

from reviewkd_mm import mmcv_ops  # isort: skip  before anything that imports mmcv.ops

import importlib.util
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import mmcv.ops
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.hub import get_config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer
from torch import Tensor

REPOSITORY = Path(__file__).parents[1]
DEVICES = ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]


def put_under_mmcv(monkeypatch: pytest.MonkeyPatch, ext: ModuleType) -> None:
    """Make ``ext`` the extension of MMCV until the test ends."""
    monkeypatch.setitem(sys.modules, 'mmcv._ext', ext)
    monkeypatch.setattr(mmcv, '_ext', ext, raising=False)
    for name, module in list(sys.modules.items()):
        if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module'):
            monkeypatch.setattr(module, 'ext_module', ext)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> mmcv_ops.StandIn:
    """The stand-in, in use under ``mmcv.ops``."""
    ext = mmcv_ops.StandIn()
    put_under_mmcv(monkeypatch, ext)
    return ext


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


# --- nms ---------------------------------------------------------------------------------------


def reference_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> list[int]:
    """Greedy suppression, box by box."""
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(reference_iou(boxes[i], boxes[j], offset) <= iou_threshold for j in kept):
            kept.append(i)
    return kept


def reference_iou(a: Tensor, b: Tensor, offset: int) -> float:
    def area(box: list[float]) -> float:
        return max(box[2] - box[0] + offset, 0) * max(box[3] - box[1] + offset, 0)

    a, b = a.tolist(), b.tolist()
    overlap = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return overlap / (area(a) + area(b) - overlap)


def random_boxes(number: int, size: float = 20.0) -> Tensor:
    corners = torch.rand(number, 2) * size
    return torch.cat([corners, corners + 1 + torch.rand(number, 2) * size], dim=1)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_nms_is_greedy_suppression(device: str, dtype: torch.dtype, offset: int) -> None:
    torch.manual_seed(0)
    boxes, scores = random_boxes(60).to(dtype), torch.rand(60, dtype=dtype)
    kept = mmcv_ops.nms(boxes.to(device), scores.to(device), 0.4, offset)
    assert kept.dtype == torch.int64
    assert 10 < len(kept) < 50
    assert kept.tolist() == reference_nms(boxes, scores, 0.4, offset)


def test_nms_offset_widens_the_boxes() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    scores = torch.tensor([0.9, 0.8])
    assert mmcv_ops.nms(boxes, scores, 0.4, offset=0).tolist() == [0, 1]  # IoU 0
    assert mmcv_ops.nms(boxes, scores, 0.4, offset=1).tolist() == [0]  # IoU 2 / 4


def test_nms_keeps_a_box_at_the_threshold() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 2.0]])
    scores = torch.tensor([0.9, 0.8])
    assert mmcv_ops.nms(boxes, scores, 0.5, offset=0).tolist() == [0, 1]
    assert mmcv_ops.nms(boxes, scores, 0.499, offset=0).tolist() == [0]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_nms_takes_half_precision_scores(device: str, dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 7], [20, 20, 24, 24]], device=device)
    scores = torch.tensor([0.5, 0.75, 0.25], device=device, dtype=dtype)
    assert mmcv_ops.nms(boxes.float(), scores, 0.5, offset=0).tolist() == [1, 2]
    assert mmcv_ops.nms(boxes.to(dtype), scores, 0.5, offset=0).tolist() == [1, 2]


@pytest.mark.parametrize('offset', [0, 1])
def test_nms_of_no_boxes(device: str, offset: int) -> None:
    kept = mmcv_ops.nms(
        torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5, offset
    )
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


@pytest.mark.usefixtures('stand_in')
def test_mmcv_nms_applies_its_score_threshold_and_limit() -> None:
    torch.manual_seed(0)
    boxes, scores = random_boxes(40), torch.rand(40)
    dets, kept = mmcv.ops.nms(boxes, scores, 0.3, score_threshold=0.5, max_num=5)
    expected = [i for i in reference_nms(boxes, scores, 0.3, 0) if scores[i] > 0.5][:5]
    assert kept.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], dim=1)[expected])


@pytest.mark.usefixtures('stand_in')
@pytest.mark.parametrize('split_thr', [10000, 10], ids=['one call', 'a call per class'])
def test_batched_nms_keeps_classes_apart(device: str, split_thr: int) -> None:
    torch.manual_seed(0)
    boxes, scores, classes = random_boxes(60), torch.rand(60), torch.randint(3, (60,))
    expected = []
    for c in range(3):
        (members,) = torch.where(classes == c)
        expected += members[reference_nms(boxes[members], scores[members], 0.3, 0)].tolist()
    expected.sort(key=lambda i: -scores[i])
    assert expected != reference_nms(boxes, scores, 0.3, 0)

    nms_cfg = dict(type='nms', iou_threshold=0.3, split_thr=split_thr)
    dets, kept = mmcv.ops.batched_nms(
        boxes.to(device), scores.to(device), classes.to(device), nms_cfg
    )
    assert kept.tolist() == expected
    assert torch.equal(dets.cpu(), torch.cat([boxes, scores[:, None]], dim=1)[expected])


# --- roi_align ---------------------------------------------------------------------------------


def reference_roi_align(
    features: Tensor,
    rois: Tensor,
    size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """RoIAlign from its definition: the mean, over a bin's samples, of bilinear interpolation."""
    shift = 0.5 if aligned else 0.0
    outputs = []
    for index, *corners in rois.tolist():
        x1, y1, x2, y2 = (corner * scale - shift for corner in corners)
        extents = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1.0), max(x2 - x1, 1.0))
        # The samples of a bin form a grid, so its mean is a product of one matrix per axis.
        rows, columns = (
            bin_weights(start, extent, bins, sampling_ratio, pixels)
            for start, extent, bins, pixels in zip(
                (y1, x1), extents, size, features.shape[-2:], strict=True
            )
        )
        outputs.append(rows.to(features) @ features[int(index)] @ columns.to(features).T)
    return torch.stack(outputs)


def bin_weights(start: float, extent: float, bins: int, ratio: int, pixels: int) -> Tensor:
    """How much of every pixel of an axis goes into every bin, (bins, pixels)."""
    samples = ratio if ratio > 0 else math.ceil(extent / bins)
    weights = torch.zeros(bins, pixels, dtype=torch.float64)
    for b in range(bins):
        for s in range(samples):
            position = start + extent / bins * (b + (s + 0.5) / samples)
            if -1 <= position <= pixels:  # further outside there is nothing
                position = min(max(position, 0.0), pixels - 1.0)
                for pixel in range(pixels):
                    weights[b, pixel] += max(0.0, 1 - abs(position - pixel)) / samples
    return weights


# inside, over each border, narrower than a pixel, and wholly outside
ROIS = torch.tensor(
    [
        [0, 3.1, 4.2, 19.7, 15.3],
        [1, -9.0, -7.5, 6.2, 8.8],
        [1, 14.3, 9.9, 40.1, 33.3],
        [0, 8.2, 8.4, 8.9, 9.3],
        [1, 90.0, 90.0, 99.0, 99.0],
    ],
    dtype=torch.float64,
)


def features(dtype: torch.dtype = torch.float64, device: str = 'cpu') -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 10, 12, dtype=torch.float64, generator=generator).to(device, dtype)


@pytest.mark.usefixtures('stand_in')
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_and_its_gradient(device: str, sampling_ratio: int, aligned: bool) -> None:
    ours = features(device=device).requires_grad_()
    plain = features().requires_grad_()
    output = mmcv.ops.roi_align(ours, ROIS.to(device), (3, 4), 0.5, sampling_ratio, 'avg', aligned)
    expected = reference_roi_align(plain, ROIS, (3, 4), 0.5, sampling_ratio, aligned)
    assert (expected != 0).flatten(1).any(dim=1).tolist() == [True] * 4 + [False]
    torch.testing.assert_close(output.cpu(), expected, rtol=1e-10, atol=1e-12)

    upstream = torch.rand(5, 3, 3, 4, dtype=torch.float64)
    output.backward(upstream.to(device))
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad.cpu(), plain.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures('stand_in')
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_gradcheck(aligned: bool) -> None:
    layer = mmcv.ops.RoIAlign((2, 2), spatial_scale=0.5, sampling_ratio=0, aligned=aligned)
    inputs = features()[:, :1].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, ROIS), (inputs,))


@pytest.mark.usefixtures('stand_in')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_roi_align_in_lower_precision(device: str, dtype: torch.dtype) -> None:
    inputs = features(dtype, device).requires_grad_()
    output = mmcv.ops.roi_align(inputs, ROIS.to(device, dtype), 2, 0.5, 2, 'avg', True)
    output.sum().backward()
    assert output.dtype == inputs.grad.dtype == dtype

    exact = inputs.detach().double().cpu().requires_grad_()
    expected = reference_roi_align(exact, ROIS.to(dtype).double(), (2, 2), 0.5, 2, True)
    expected.sum().backward()
    tolerance = dict(rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)
    torch.testing.assert_close(output.double().cpu(), expected, **tolerance)
    torch.testing.assert_close(inputs.grad.double().cpu(), exact.grad, **tolerance)


@pytest.mark.usefixtures('stand_in')
def test_roi_align_of_no_rois(device: str) -> None:
    inputs = features(device=device).requires_grad_()
    rois = torch.zeros(0, 5, dtype=torch.float64, device=device)
    output = mmcv.ops.roi_align(inputs, rois, (3, 4), 0.5, 0, 'avg', True)
    assert output.shape == (0, 3, 3, 4)
    output.sum().backward()
    assert torch.equal(inputs.grad, torch.zeros_like(inputs))


@pytest.mark.usefixtures('stand_in')
def test_roi_align_refuses_max_pooling() -> None:
    with pytest.raises(RuntimeError, match=r"'roi_align' with pool_mode='max'.*pip install"):
        mmcv.ops.roi_align(features(), ROIS, 2, 0.5, 2, 'max', True)
    backward = [torch.zeros(1), ROIS, torch.zeros(0), torch.zeros(0), features()]
    with pytest.raises(RuntimeError, match="pool_mode='max'"):
        mmcv_ops.roi_align_backward(*backward, 2, 2, 0.5, 2, 0, True)


# --- sigmoid_focal_loss ------------------------------------------------------------------------


def reference_focal_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None, gamma: float, alpha: float
) -> Tensor:
    """Focal loss, term by term; a background row belongs to no class."""
    rows = []
    for row, label in zip(logits, target.tolist(), strict=True):
        terms = []
        for c, p in enumerate(row.sigmoid()):
            positive = -alpha * (1 - p) ** gamma * p.log()
            negative = -(1 - alpha) * p**gamma * (1 - p).log()
            terms.append(positive if c == label else negative)
        is_weighted = weight is not None and 0 <= label < len(weight)
        rows.append(torch.stack(terms) * (weight[label] if is_weighted else 1))
    return torch.stack(rows)


TARGET = torch.tensor([0, 3, 1, 4, 2, 4])  # 4 of 4 classes is background
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def logits(dtype: torch.dtype = torch.float64, device: str = 'cpu') -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = 3 * torch.randn(6, 4, dtype=torch.float64, generator=generator)
    return values.to(device, dtype)


@pytest.mark.usefixtures('stand_in')
@pytest.mark.parametrize('weight', [None, WEIGHT], ids=['plain', 'weighted'])
@pytest.mark.parametrize(('gamma', 'alpha'), [(2.0, 0.25), (0.0, 0.5), (1.5, 0.7)])
def test_sigmoid_focal_loss_and_its_gradient(
    device: str, gamma: float, alpha: float, weight: Tensor | None
) -> None:
    ours, plain = logits(device=device).requires_grad_(), logits().requires_grad_()
    class_weight = None if weight is None else weight.to(device)
    output = mmcv.ops.sigmoid_focal_loss(
        ours, TARGET.to(device), gamma, alpha, class_weight, 'none'
    )
    expected = reference_focal_loss(plain, TARGET, weight, gamma, alpha)
    torch.testing.assert_close(output.cpu(), expected, rtol=1e-10, atol=1e-12)

    upstream = torch.rand(6, 4, dtype=torch.float64)
    output.backward(upstream.to(device))
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad.cpu(), plain.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures('stand_in')
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_sigmoid_focal_loss_gradcheck(reduction: str) -> None:
    layer = mmcv.ops.SigmoidFocalLoss(2.0, 0.25, WEIGHT, reduction)
    assert torch.autograd.gradcheck(lambda x: layer(x, TARGET), (logits().requires_grad_(),))


@pytest.mark.usefixtures('stand_in')
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_sigmoid_focal_loss_in_half_precision(device: str, dtype: torch.dtype) -> None:
    inputs = logits(dtype, device).requires_grad_()
    output = mmcv.ops.sigmoid_focal_loss(inputs, TARGET.to(device), 2.0, 0.25, None, 'none')
    output.sum().backward()
    assert output.dtype == inputs.grad.dtype == dtype
    expected = reference_focal_loss(inputs.detach().double().cpu(), TARGET, None, 2.0, 0.25)
    tolerance = dict(rtol=torch.finfo(dtype).eps, atol=1e-6)
    torch.testing.assert_close(output.double().cpu(), expected, **tolerance)


@pytest.mark.usefixtures('stand_in')
def test_sigmoid_focal_loss_of_extreme_logits_is_finite(device: str) -> None:
    inputs = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], device=device, requires_grad=True)
    target = torch.tensor([0, 0], device=device)
    output = mmcv.ops.sigmoid_focal_loss(inputs, target, 2.0, 0.25, None, 'none')
    output.sum().backward()
    torch.testing.assert_close(output.cpu(), torch.tensor([[0.0, 0.0], [50.0, 150.0]]))
    torch.testing.assert_close(inputs.grad.cpu(), torch.tensor([[0.0, 0.0], [-0.25, 0.75]]))


@pytest.mark.usefixtures('stand_in')
def test_sigmoid_focal_loss_of_no_rows(device: str) -> None:
    inputs = torch.zeros(0, 4, device=device, requires_grad=True)
    target = torch.zeros(0, dtype=torch.int64, device=device)
    for weight in (None, WEIGHT.float().to(device)):
        output = mmcv.ops.sigmoid_focal_loss(inputs, target, 2.0, 0.25, weight, 'sum')
        output.backward()
        assert output == 0


# --- the module --------------------------------------------------------------------------------


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


def test_a_working_extension_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = fake_extension(reference_extension_nms)
    put_under_mmcv(monkeypatch, healthy)
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
    monkeypatch: pytest.MonkeyPatch, nms: Any, message: str
) -> None:
    put_under_mmcv(monkeypatch, fake_extension(nms))
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


# --- MMDetection -------------------------------------------------------------------------------


def shrunken(config: str) -> dict[str, Any]:
    """The model of a zoo config with ResNet-18, 16 channels and 3 classes."""
    model = get_config(f'mmdet::{config}').model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    if 'bbox_head' in model:
        model.bbox_head.update(in_channels=16, feat_channels=16, num_classes=3)
        model.test_cfg.score_thr = 0.0
        return model
    model.rpn_head.update(in_channels=16, feat_channels=16)
    for name, head in model.roi_head.items():
        if name.endswith('_roi_extractor'):
            head.out_channels = 16
        if name in ('bbox_head', 'mask_head'):
            head.update(in_channels=16, num_classes=3)
    model.roi_head.bbox_head.fc_out_channels = 32
    model.roi_head.mask_head.conv_out_channels = 16
    for part in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        part.update(nms_pre=50, max_per_img=20)
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    return model


def bright_square(index: int) -> dict[str, Any]:
    """A 64 x 64 image with one object."""
    corner, side = 8 + 8 * index, 24
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, corner : corner + side, corner : corner + side] = 255
    box = torch.tensor([[corner, corner, corner + side, corner + side]], dtype=torch.float32)
    mask = (image[:1] > 0).numpy().astype(np.uint8)
    sample = DetDataSample(
        metainfo=dict(
            img_id=index,
            img_shape=(64, 64),
            ori_shape=(64, 64),
            scale_factor=(1.0, 1.0),
            batch_input_shape=(64, 64),
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(box),
        labels=torch.tensor([index % 3]),
        masks=BitmapMasks(mask, 64, 64),
    )
    return dict(inputs=image, data_samples=sample)


@pytest.fixture
def own_globals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a Runner leaves in the process: its scope, message hub, logger, visualizer."""
    for manager in (DefaultScope, MessageHub, MMLogger, Visualizer):
        monkeypatch.setattr(manager, '_instance_dict', manager._instance_dict.copy())


@pytest.mark.usefixtures('own_globals')
@pytest.mark.parametrize(
    ('config', 'used_in_training', 'used_in_prediction'),
    [
        ('retinanet/retinanet_r50_fpn_1x_coco.py', (), ('nms',)),
        (
            'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
            ('nms', 'roi_align_forward', 'roi_align_backward'),
            ('nms', 'roi_align_forward'),
        ),
    ],
    ids=['RetinaNet', 'Mask R-CNN'],
)
def test_a_runner_trains_a_detector(
    stand_in: mmcv_ops.StandIn,
    tmp_path: Path,
    config: str,
    used_in_training: tuple[str, ...],
    used_in_prediction: tuple[str, ...],
) -> None:
    ops = {op.__name__: Mock(wraps=op) for op in mmcv_ops.PROVIDED_OPS}
    for name, op in ops.items():
        setattr(stand_in, name, op)
    torch.manual_seed(0)
    runner = Runner(
        model=shrunken(config),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=[bright_square(i) for i in range(2)],
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            batch_size=2,
        ),
        train_cfg=dict(by_epoch=False, max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=None),
        default_scope='mmdet',
        experiment_name=f'{tmp_path.parent.name}_{tmp_path.name}',
        log_level='ERROR',
    )
    parameters = dict(runner.model.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    runner.train()
    for name in used_in_training:
        assert ops[name].called, name
    assert runner.iter == 1
    assert all(p.isfinite().all() for p in parameters.values())
    assert any(not torch.equal(p, before[name]) for name, p in parameters.items())

    for op in ops.values():
        op.reset_mock()
    runner.model.eval()
    batch = {key: [bright_square(0)[key]] for key in ('inputs', 'data_samples')}
    (prediction,) = runner.model.test_step(batch)
    assert len(prediction.pred_instances) > 0
    for name in used_in_prediction:
        assert ops[name].called, name


def test_mmdet_focal_loss_as_on_a_gpu(stand_in: mmcv_ops.StandIn) -> None:
    """MMDetection calls MMCV's focal loss on CUDA only, and one in plain torch on a CPU."""
    from mmdet.models.losses.focal_loss import FocalLoss, sigmoid_focal_loss

    stand_in.sigmoid_focal_loss_forward = Mock(wraps=mmcv_ops.sigmoid_focal_loss_forward)
    weight = torch.rand(6, dtype=torch.float64)
    on_gpu, on_cpu = logits().requires_grad_(), logits().requires_grad_()
    loss = sigmoid_focal_loss(on_gpu, TARGET, weight, avg_factor=3.0)
    expected = FocalLoss()(on_cpu, TARGET, weight, avg_factor=3.0)
    assert stand_in.sigmoid_focal_loss_forward.called
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(on_gpu.grad, on_cpu.grad)
