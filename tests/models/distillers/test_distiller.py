"""The distiller as a model: its losses, modes, attributes and what it keeps of a step."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.models.distillers.model_source import read_source
from tests.models.distillers.helpers import (
    NUM_CLASSES,
    PIXELS,
    assert_same_state,
    batch,
    build,
    build_distiller,
    classifier,
    logits,
    review,
    state_of,
    teacher_classifier,
    total,
)
from tests.numbers import assert_close64


class Convolution(BaseModel):
    """A student or teacher of one convolution whose losses a test chooses."""

    def __init__(self, losses=None, detach: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3)
        self.losses, self.detach = losses or {}, detach
        self._private = self.public = 'of the student'

    def extract_feat(self, inputs):
        return self.backbone(inputs.detach())

    def forward(self, inputs, data_samples=None, mode='tensor'):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach):
            features = self.extract_feat(inputs)
        return self.losses if mode == 'loss' else features


def convolutions(losses=None, detach: bool = False, **kwargs) -> Distiller:
    transfer = dict(student='backbone', teacher='backbone', loss=dict(type='HCLLoss'))
    kwargs.setdefault('transfers', dict(review=transfer))
    return build_distiller(
        student=Convolution(losses, detach), teacher=Convolution(), teacher_ckpt=None, **kwargs
    )


def test_losses_are_the_students_and_one_more_for_each_transfer():
    distiller = build_distiller(transfers=dict(review=review(), kd=logits()))
    inputs, samples = batch()

    losses = distiller(inputs, samples, mode='loss')

    assert list(losses) == ['loss_cls', 'loss_review', 'loss_kd']
    assert all(loss.dim() == 0 and loss > 0 for loss in losses.values())
    alone = copy.deepcopy(distiller.student)(inputs, samples, mode='loss')
    assert torch.equal(losses['loss_cls'], alone['loss'])


def test_loss_weights_are_in_the_losses():
    once = build_distiller()
    thrice = build_distiller(
        transfers=dict(review=review(loss=dict(type='HCLLoss', loss_weight=3)))
    )
    thrice.load_state_dict(once.state_dict())

    inputs, samples = batch()
    losses = [model.double().loss(inputs.double(), samples) for model in (once, thrice)]

    assert_close64(losses[1]['loss_review'], 3 * losses[0]['loss_review'])
    assert torch.equal(losses[1]['loss_cls'], losses[0]['loss_cls'])


def test_task_loss_weight_scales_losses_alone():
    student = classifier()
    student['head']['cal_acc'] = True
    whole, part = (build_distiller(student=student, task_loss_weight=w) for w in (1.0, 0.25))
    part.load_state_dict(whole.state_dict())

    losses, scaled = whole.loss(*batch()), part.loss(*batch())

    assert torch.equal(scaled['loss_cls'], 0.25 * losses['loss_cls'])
    assert torch.equal(scaled['loss_review'], losses['loss_review'])
    assert scaled['accuracy_top-1'] == losses['accuracy_top-1']


def test_task_loss_weight_scales_lists_of_losses():
    given = dict(loss_box=[torch.tensor(1.0), torch.tensor(2.0)], accuracy=torch.tensor(4.0))

    losses = convolutions(given, task_loss_weight=0.5).loss(torch.rand(1, 3, 8, 8))

    assert losses['loss_box'] == [torch.tensor(0.5), torch.tensor(1.0)]
    assert losses['accuracy'] == 4
    assert given['loss_box'][0] == 1


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        (dict(loss_review=torch.ones(())), r'transfers\.review.*loss_review.*rename'),
        (dict(loss=torch.ones(()), loss_cls=torch.ones(())), r"'loss' and 'loss_cls'"),
    ],
)
def test_clash_of_loss_names_fails_in_the_first_step(losses, message):
    with pytest.raises(RuntimeError, match=message):
        convolutions(losses).loss(torch.rand(1, 3, 8, 8))


def test_other_modes_are_the_students():
    distiller = build_distiller().eval()
    inputs, samples = batch()

    predictions = distiller(inputs, samples, mode='predict')
    scores = distiller(inputs)

    assert torch.equal(scores, distiller.student(inputs, mode='tensor'))
    assert scores.shape == (4, NUM_CLASSES)
    expected = distiller.student(inputs, samples, mode='predict')
    assert [p.pred_label for p in predictions] == [e.pred_label for e in expected]


@pytest.mark.parametrize('mode', ['tensor', 'predict'])
def test_other_modes_record_nothing_and_leave_the_teacher_alone(mode):
    distiller = build_distiller()
    inputs, samples = batch()
    calls = []
    distiller.teacher.backbone.register_forward_hook(lambda *args: calls.append(args))

    distiller(inputs, samples, mode=mode)

    assert not calls
    assert not distiller.student_recorders['review'].recorded


def test_features_are_forgotten_after_a_step():
    distiller = build_distiller()
    alive = {}
    for role in ('student', 'teacher'):
        layer = getattr(distiller, role).backbone.layer2
        layer.register_forward_hook(
            lambda *args, role=role: alive.update({role: weakref.ref(args[2])})
        )
    distiller.loss(*batch())  # The first one clones what it records.

    losses = distiller.loss(*batch())

    gc.collect()
    assert alive['teacher']() is None
    total(losses).backward()
    del losses
    gc.collect()
    assert alive['student']() is None


def test_features_are_forgotten_after_a_failed_step():
    distiller = build_distiller()

    with pytest.raises(TypeError):
        distiller.loss(batch()[0], [None])

    assert not distiller.student_recorders['review'].recorded
    assert not distiller.teacher_recorders['review'].recorded


def test_a_student_that_detaches_its_feature_is_refused():
    distiller = convolutions(detach=True)

    with pytest.raises(RuntimeError, match=r"^transfers\.\w+\.student: tap 'backbone' carries no"):
        distiller.loss(torch.rand(1, 3, 8, 8))
    with torch.no_grad():
        assert distiller.loss(torch.rand(1, 3, 8, 8))['loss_review'] > 0


def test_a_frozen_stage_may_be_tapped():
    student = classifier()
    student['backbone']['frozen_stages'] = 2
    distiller = build_distiller(student=student).train()

    total(distiller.loss(*batch())).backward()

    assert distiller.student.backbone.layer1[0].conv1.weight.grad is None
    assert all(p.grad is not None for p in distiller.transfers.parameters())


def test_attributes_that_it_lacks_are_the_students():
    distiller = convolutions()

    assert distiller.backbone is distiller.student.backbone
    assert distiller.public == 'of the student'
    assert not hasattr(distiller, '_private')
    assert not hasattr(distiller, 'nowhere')
    assert distiller.loss.__self__ is distiller


def test_connector_and_loss_can_be_reached_by_name():
    transfers = build_distiller(transfers=dict(review=review(), kd=logits())).transfers

    assert list(transfers) == ['review', 'kd']
    assert type(transfers['review'].connector).__name__ == 'ReviewConnector'
    assert type(transfers['kd'].loss).__name__ == 'KLDivergence'
    assert transfers['kd'].connector is None


def test_names_in_the_state_dict():
    names = set(build_distiller().state_dict())

    assert 'student.backbone.layer1.0.conv1.weight' in names
    assert 'transfers.review.connector.abfs.0.conv1.conv.weight' in names
    assert not any(name.startswith('transfers.review.loss') for name in names)


def test_data_preprocessor_of_the_runner_goes_to_the_student():
    student = classifier()
    del student['data_preprocessor']

    distiller = build_distiller(student=student, data_preprocessor=dict(PIXELS, to_rgb=True))

    assert distiller.data_preprocessor is distiller.student.data_preprocessor
    assert type(distiller.data_preprocessor).__name__ == 'ClsDataPreprocessor'
    assert distiller.data_preprocessor.to_rgb
    assert distiller.data_preprocessor.mean.flatten().tolist() == pytest.approx(PIXELS['mean'])


def test_a_student_with_a_data_preprocessor_keeps_it():
    distiller = build_distiller(data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3))

    assert distiller.data_preprocessor is distiller.student.data_preprocessor
    assert distiller.data_preprocessor.mean.flatten().tolist() == pytest.approx(PIXELS['mean'])


def test_built_student_keeps_its_weights():
    student = read_source('student', classifier()).build()  # MMEngine has not initialised it yet.
    expected = state_of(student)

    distiller = build_distiller(student=student)
    distiller.init_weights()

    assert distiller.student is student
    assert_same_state(state_of(student), expected)


def test_one_module_cannot_be_both():
    model = build(teacher_classifier())

    with pytest.raises(ValueError, match='same module'):
        build_distiller(student=model, teacher=model, teacher_ckpt=None)


def test_pretrained_weights_of_the_student_are_loaded(tmp_path):
    weights = build(classifier(), seed=5)
    torch.save(dict(state_dict=weights.backbone.state_dict()), tmp_path / 'backbone.pth')
    student = classifier()
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    student['backbone']['init_cfg'] = pretrained

    distiller = build_distiller(student=student)
    distiller.init_weights()

    assert_same_state(state_of(distiller.student.backbone), state_of(weights.backbone))


def test_runs_in_bfloat16_autocast():
    distiller = build_distiller(transfers=dict(review=review(), kd=logits()))
    expected = copy.deepcopy(distiller).loss(*batch())

    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = distiller.loss(*batch())
    total(losses).backward()

    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        eps = torch.finfo(torch.bfloat16).eps
        assert abs(loss - expected[name]) <= 8 * eps * abs(expected[name]), name
    assert all(p.grad.isfinite().all() for p in distiller.parameters())
