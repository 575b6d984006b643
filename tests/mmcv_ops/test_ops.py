"""The stand-in's ops against plain references, alone and through ``mmcv.ops``."""

from __future__ import annotations

import mmcv.ops
import pytest
import torch
from torch import Tensor

from reviewkd_mm import mmcv_ops
from tests.mmcv_ops.references import (
    TARGET,
    WEIGHT,
    logits,
    random_boxes,
    reference_focal_loss,
    reference_nms,
    reference_roi_align,
)
from tests.numbers import assert_close64, assert_within_rounding

# --- nms ---------------------------------------------------------------------------------------


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
    assert_close64(output.cpu(), expected)

    upstream = torch.rand(5, 3, 3, 4, dtype=torch.float64)
    output.backward(upstream.to(device))
    expected.backward(upstream)
    assert_close64(ours.grad.cpu(), plain.grad)


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
    for found, wanted in ((output, expected), (inputs.grad, exact.grad)):
        assert_within_rounding(found, wanted.to(dtype), wanted)


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
    assert_close64(output.cpu(), expected)

    upstream = torch.rand(6, 4, dtype=torch.float64)
    output.backward(upstream.to(device))
    expected.backward(upstream)
    assert_close64(ours.grad.cpu(), plain.grad)


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
    assert_within_rounding(output, expected.to(dtype), expected)


@pytest.mark.usefixtures('stand_in')
def test_sigmoid_focal_loss_of_extreme_logits_is_finite(device: str) -> None:
    inputs = torch.tensor(
        [[200, -200], [-200, 200]], dtype=torch.float64, device=device, requires_grad=True
    )
    target = torch.tensor([0, 0], device=device)
    output = mmcv.ops.sigmoid_focal_loss(inputs, target, 2.0, 0.25, None, 'none')
    output.sum().backward()
    assert_close64(output, torch.tensor([[0, 0], [50, 150]]).double())
    assert_close64(inputs.grad, torch.tensor([[0, 0], [-0.25, 0.75]]).double())


@pytest.mark.usefixtures('stand_in')
def test_sigmoid_focal_loss_of_no_rows(device: str) -> None:
    inputs = torch.zeros(0, 4, device=device, requires_grad=True)
    target = torch.zeros(0, dtype=torch.int64, device=device)
    for weight in (None, WEIGHT.float().to(device)):
        output = mmcv.ops.sigmoid_focal_loss(inputs, target, 2.0, 0.25, weight, 'sum')
        output.backward()
        assert output == 0
