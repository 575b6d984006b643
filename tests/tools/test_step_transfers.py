"""A distiller's transfers alone compute what they do in a step."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from reviewkd_mm.models.distillers import Distiller
from tests.models.distillers.helpers import batch, build_distiller, logits, review
from tests.tools.step_benchmark import load

transfers = load('step_transfers')
FORMS = [transfers.OwnForm, transfers.textbook_form]


@pytest.fixture
def distiller() -> Distiller:
    both = dict(review=review(loss=dict(type='HCLLoss', loss_weight=3.0)), kd=logits())
    built = build_distiller(transfers=both, channels_last=False).train()
    # The next forward differs by nothing but rounding.
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    return built


def forms_of(distiller: Distiller, form: type) -> dict:
    return {name: form(transfer) for name, transfer in distiller.transfers.items()}


def test_features_are_those_of_the_step(distiller):
    seen = {}
    for name, transfer in distiller.transfers.items():
        transfer.register_forward_pre_hook(
            lambda t, _, name=name: seen.update(
                {name: (t.student_recorder.features(), t.teacher_recorder.features())}
            )
        )
    features = transfers.read_features(distiller, *batch())

    assert list(features) == ['review', 'kd']
    for name, sides in features.items():
        for given, recorded in zip(sides, seen[name], strict=True):
            for one, other in zip(given.features(), recorded, strict=True):
                assert one.is_leaf
                assert torch.equal(one, other)
                assert one.stride() == other.stride()
                assert one.requires_grad == other.requires_grad
                assert one.data_ptr() != other.data_ptr()
        assert all(feature.requires_grad for feature in sides[0].features())
        assert not any(feature.requires_grad for feature in sides[1].features())
    assert all(not t.student_recorder.recorded for t in distiller.transfers.values())


@pytest.mark.parametrize('form', FORMS)
def test_losses_and_gradients_are_those_of_the_step(distiller, form):
    inputs, samples = batch()
    features = transfers.read_features(distiller, inputs, samples)
    losses = distiller(inputs, samples, mode='loss')
    gradients, hooked = {}, []
    for leaf in features['review'][0].features():
        hooked.append(leaf.register_hook(partial(gradients.__setitem__, leaf)))

    loss = transfers.train_alone(forms_of(distiller, form), features, nullcontext)
    for hook in hooked:
        hook.remove()

    torch.testing.assert_close(loss, (losses['loss_review'] + losses['loss_kd']).detach())
    review, (student, teacher) = distiller.transfers['review'], features['review']
    outputs = review.connector(student.features(), [t.shape[2:] for t in teacher.features()])
    expected = torch.autograd.grad(review.loss(outputs, teacher.features()), student.features())
    for leaf, gradient in zip(student.features(), expected, strict=True):
        torch.testing.assert_close(gradients[leaf], gradient)


@pytest.mark.parametrize('form', FORMS)
def test_gradients_are_forgotten_and_recorders_put_back(distiller, form):
    recorders = [(t.student_recorder, t.teacher_recorder) for t in distiller.transfers.values()]
    features = transfers.read_features(distiller, *batch())
    forms = forms_of(distiller, form)
    for _ in range(2):
        transfers.train_alone(forms, features, nullcontext)

    assert all(p.grad is None for form in forms.values() for p in form.parameters())
    assert all(p.grad is None for p in distiller.parameters())
    assert all(leaf.grad is None for given, _ in features.values() for leaf in given.features())
    now = [(t.student_recorder, t.teacher_recorder) for t in distiller.transfers.values()]
    assert now == recorders


def test_only_abf_with_hcl_has_a_textbook_form(distiller):
    forms = forms_of(distiller, transfers.textbook_form)
    assert {name: type(form) for name, form in forms.items()} == dict(
        review=transfers.TextbookForm, kd=transfers.OwnForm
    )


@pytest.mark.parametrize(('amp', 'dtype'), [(True, torch.bfloat16), (False, torch.float32)])
def test_autocast(amp, dtype):
    with transfers.autocast('cpu', amp):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
