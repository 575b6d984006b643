"""The same distiller with MMDetection's detectors, and across scopes."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from reviewkd_mm.models.distillers import Distiller
from tests.integration.detection import CAFFE, faster_rcnn, raw_batch, retinanet
from tests.models.distillers.helpers import (
    assert_same_state,
    build,
    build_distiller,
    review,
    state_of,
    teacher_classifier,
    total,
)
from tests.numbers import assert_close64, assert_within_rounding

NECK = dict(student='neck', teacher='neck')


def detectors(**kwargs) -> Distiller:
    options = dict(
        student=retinanet(),
        teacher=retinanet(width=6, channels=12),
        transfers=dict(review=review(**NECK)),
    )
    return build_distiller(**{**options, **kwargs})


def loss_of(distiller: Distiller, **kwargs) -> dict:
    data = distiller.data_preprocessor(raw_batch(**kwargs), training=True)
    return distiller(**data, mode='loss')


def count_calls(model: nn.Module) -> dict[str, int]:
    """Count how often each child of a model runs, its loss included."""
    calls = dict.fromkeys(dict(model.named_children()), 0)

    def counted(name, method):
        def call(*args, **kwargs):
            calls[name] += 1
            return method(*args, **kwargs)

        return call

    for name, child in model.named_children():
        for method in ('forward', 'loss', 'predict'):
            if hasattr(child, method):
                setattr(child, method, counted(name, getattr(child, method)))
    return calls


def test_losses_of_a_detector():
    distiller = detectors()

    losses = loss_of(distiller)
    total(losses).backward()

    assert list(losses) == ['loss_cls', 'loss_bbox', 'loss_review']
    assert isinstance(losses['loss_cls'], list)
    assert losses['loss_review'] > 0
    assert all(p.grad is not None for p in distiller.parameters())


def test_channels_and_levels_of_a_pyramid():
    connector = detectors().transfers.review.connector

    assert [abf.conv1.conv.in_channels for abf in connector.abfs] == [8] * 5
    assert [abf.conv2.conv.out_channels for abf in connector.abfs] == [12] * 5


def test_task_loss_weight_scales_the_losses_of_every_level():
    whole, half = detectors(), detectors(task_loss_weight=0.5)
    half.load_state_dict(whole.state_dict())

    losses, scaled = loss_of(whole), loss_of(half)

    for key in ('loss_cls', 'loss_bbox'):
        # A half of a number in floating point is exact.
        pairs = zip(scaled[key], losses[key], strict=True)
        assert all(torch.equal(half, 0.5 * value) for half, value in pairs)


def test_train_step_logs_every_loss():
    distiller = detectors()
    optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=1e-3))
    teacher = state_of(distiller.teacher)

    logged = distiller.train_step(raw_batch(), optimizer)

    assert set(logged) == {'loss', 'loss_cls', 'loss_bbox', 'loss_review'}
    parts = logged['loss_cls'] + logged['loss_bbox'] + logged['loss_review']
    assert torch.equal(logged['loss'], parts)
    assert_same_state(state_of(distiller.teacher), teacher)


def test_predictions_are_the_students():
    distiller = detectors().eval()

    with torch.no_grad():
        actual, expected = (m.test_step(raw_batch()) for m in (distiller, distiller.student))

    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one.pred_instances.bboxes, other.pred_instances.bboxes)


@pytest.mark.parametrize('taps', ['neck', ['backbone.layer2', 'backbone.layer3']])
def test_heads_of_the_teacher_are_never_run_for_its_features(taps):
    transfers = dict(review=review(student=taps, teacher=taps))
    distiller = detectors(transfers=transfers)
    calls = count_calls(distiller.teacher)

    loss_of(distiller)

    assert calls == dict(data_preprocessor=0, backbone=1, neck=1, bbox_head=0)


def test_a_tap_in_the_head_runs_the_whole_network_once_but_no_loss():
    taps = dict(type='ModuleOutputs', source='bbox_head.retina_cls', call=0)
    transfer = dict(student=taps, teacher=taps, loss=dict(type='HCLLoss'))
    distiller = detectors(transfers=dict(scores=transfer))
    calls = count_calls(distiller.teacher)

    losses = loss_of(distiller)

    assert calls == dict(data_preprocessor=0, backbone=1, neck=1, bbox_head=1)
    assert losses['loss_scores'] > 0


def test_all_calls_of_a_head_that_the_levels_share():
    taps = dict(type='ModuleOutputs', source='bbox_head.retina_cls', call='all')
    transfer = dict(student=taps, teacher=taps, loss=dict(type='HCLLoss'))
    distiller = detectors(transfers=dict(scores=transfer))
    outputs = {model: [] for model in (distiller.student, distiller.teacher)}
    for model, kept in outputs.items():
        model.bbox_head.retina_cls.register_forward_hook(lambda *args, k=kept: k.append(args[-1]))

    losses = loss_of(distiller)
    total(losses).backward()

    assert [len(levels) for levels in outputs.values()] == [5, 5]
    assert torch.equal(losses['loss_scores'], distiller.transfers.scores(*outputs.values()))
    student, _ = distiller.dummy_features((64, 96))['scores']
    assert [(name, tuple(feature.shape[2:])) for name, feature in student[:2]] == [
        ('bbox_head.retina_cls call=0 of 5', (8, 12)),
        ('bbox_head.retina_cls call=1 of 5', (4, 6)),
    ]


def test_a_head_that_no_call_reaches_names_its_children():
    with pytest.raises(RuntimeError) as caught:
        detectors(transfers=dict(kd=review(student='neck', teacher='bbox_head')))

    message = str(caught.value)
    assert message.startswith("transfers.kd.teacher: tap 'bbox_head' recorded nothing")
    assert "'bbox_head.retina_cls'" in message


def test_a_two_stage_detectors_neck():
    distiller = detectors(teacher=faster_rcnn())
    calls = count_calls(distiller.teacher)

    assert loss_of(distiller)['loss_review'] > 0
    assert (calls['rpn_head'], calls['roi_head']) == (0, 0)


def test_a_tap_that_needs_proposals_says_why_it_cannot_be_reached():
    tap = 'roi_head.bbox_head.shared_fcs.0'

    with pytest.raises(RuntimeError) as caught:
        detectors(teacher=faster_rcnn(), transfers=dict(kd=review(student='neck', teacher=tap)))

    message = str(caught.value)
    assert f"transfers.kd.teacher: tap '{tap}' recorded nothing" in message
    assert 'FasterRCNN runs no further than backbone and neck on an image without' in message


@pytest.mark.parametrize('sizes', [((64, 64), (48, 40)), ((33, 60), (70, 20))])
def test_teacher_sees_its_own_pixels_and_padding(sizes):
    own = dict(CAFFE, pad_value=11, pad_size_divisor=32)
    teacher = retinanet(data_preprocessor=dict(type='DetDataPreprocessor', **own))
    distiller = detectors(teacher=teacher)
    seen = []
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    loss_of(distiller, sizes=sizes)

    plain, exact = (
        DetDataPreprocessor(**own).to(dtype)(raw_batch(sizes=sizes), training=True)['inputs']
        for dtype in (torch.float32, torch.float64)
    )
    assert_within_rounding(seen[0], plain, exact)


@pytest.mark.parametrize('current', ['mmdet', 'reviewkd_mm', None])
def test_a_classifier_teaches_a_detector(current):
    taps = dict(student=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'])
    with DefaultScope.overwrite_default_scope(current):
        distiller = detectors(
            teacher=teacher_classifier(),
            transfers=dict(review=review(**taps, teacher=taps['student'])),
        )

    losses = loss_of(distiller)
    total(losses).backward()

    assert type(distiller.teacher.neck).__module__.startswith('mmpretrain.')
    assert all(p.grad is not None for p in distiller.transfers.parameters())


def test_a_detectors_student_starts_from_the_weights_of_the_student_alone():
    alone = build(retinanet(), seed=4)
    torch.manual_seed(4)
    distiller = detectors()
    distiller.init_weights()

    assert_same_state(state_of(distiller.student), state_of(alone))


def test_hooks_reach_the_detectors_parts():
    distiller = detectors()

    assert distiller.bbox_head is distiller.student.bbox_head
    assert distiller.with_neck
    assert not hasattr(distiller, 'roi_head')


@pytest.mark.usefixtures('in_float64')
@pytest.mark.filterwarnings('ignore:.*use_reentrant')
def test_activation_checkpointing_changes_no_gradient():
    gradients = []
    for with_cp in (False, True):
        student = retinanet()
        student['backbone']['with_cp'] = with_cp
        torch.manual_seed(0)
        transfers = dict(review=review(student='backbone.layer2', teacher='backbone.layer2'))
        distiller = detectors(student=student, transfers=transfers)
        total(loss_of(distiller)).backward()
        gradients.append({name: p.grad for name, p in distiller.named_parameters()})

    assert_close64(*gradients)
