"""How the teacher is run: every option against the plain path, through whole training steps."""

from __future__ import annotations

import copy
import functools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reviewkd_mm.models.distillers import Distiller, TeacherOptions
from tests.integration.detection import CAFFE, raw_batch, retinanet
from tests.models.distillers.helpers import (
    WIDE,
    assert_same_state,
    batch,
    build_distiller,
    classifier,
    logits,
    review,
    state_of,
    total,
)
from tests.numbers import assert_close64

PLAIN = dict(channels_last=False)
HALF = [dict(dtype='bf16'), dict(dtype='fp16')]
DTYPES = dict(bf16=torch.bfloat16, fp16=torch.float16)


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@torch.no_grad()
def as_after_a_training(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give BatchNorm other scales and shifts than it starts with."""
    generator = torch.Generator().manual_seed(seed)
    for norm in norms(model):
        norm.weight.copy_(0.7 + 0.6 * torch.rand(len(norm.weight), generator=generator))
        norm.bias.copy_(0.2 * torch.randn(len(norm.bias), generator=generator))
    return model


@functools.cache
def classifying_teacher() -> nn.Module:
    return as_after_a_training(build_distiller().teacher)


@functools.cache
def detecting_teacher() -> nn.Module:
    pixels = dict(type='DetDataPreprocessor', pad_size_divisor=32, **CAFFE)
    cfg = retinanet(width=6, channels=12, data_preprocessor=pixels)
    transfers = dict(review=review(student='neck', teacher='neck'))
    student = retinanet()
    built = build_distiller(student=student, teacher=cfg, transfers=transfers)
    return as_after_a_training(built.teacher)


def classifiers(**options) -> Distiller:
    arguments = dict(
        student=classifier(WIDE),
        teacher=copy.deepcopy(classifying_teacher()),
        teacher_ckpt=None,
        transfers=dict(review=review(), kd=logits()),
    )
    torch.manual_seed(0)
    return build_distiller(**dict(arguments, **options))


def detectors(**options) -> Distiller:
    teacher = copy.deepcopy(detecting_teacher())
    torch.manual_seed(0)
    return build_distiller(
        student=retinanet(width=16),
        teacher=teacher,
        teacher_ckpt=None,
        transfers=dict(review=review(student='neck', teacher='neck')),
        **options,
    )


def losses_of(distiller: Distiller) -> dict:
    dtype = next(distiller.parameters()).dtype
    if not hasattr(distiller.student, 'bbox_head'):
        inputs, samples = batch()
        return distiller.loss(inputs.to(dtype), samples)
    data = distiller.data_preprocessor(raw_batch(), training=True)
    return distiller.loss(data['inputs'].to(dtype), data['data_samples'])


def step(distiller: Distiller) -> tuple[dict, Tensor]:
    """Return the losses and the gradients of student and connectors as one vector."""
    losses = losses_of(distiller)
    total(losses).backward()
    return losses, torch.cat([p.grad.flatten() for p in distiller.parameters()])


def together(losses: dict) -> Tensor:
    """Return all losses, those of every level, as one vector."""
    values = [
        v for value in losses.values() for v in (value if isinstance(value, list) else [value])
    ]
    return torch.stack(values).detach()


def taught(distiller: Distiller) -> tuple[Tensor, Tensor]:
    """Return the review loss and its own gradients, those of the task left out."""
    loss = losses_of(distiller)['loss_review']
    gradients = torch.autograd.grad(loss, [*distiller.parameters()], allow_unused=True)
    return loss, torch.cat([g.flatten() for g in gradients if g is not None])


def features_for_the_loss(distiller: Distiller) -> list[Tensor]:
    """Run a step and return the teacher's features as the review loss gets them."""
    seen: list[Tensor] = []
    loss = distiller.transfers.review.loss
    handle = loss.register_forward_pre_hook(lambda _, args: seen.extend(args[1]))
    losses_of(distiller)
    handle.remove()
    return seen


@pytest.mark.parametrize(
    'options', [dict(channels_last=True), dict(teacher_options=dict(dtype='fp32'))], ids=str
)
@pytest.mark.parametrize('pair', [classifiers, detectors])
def test_exact_options_change_no_loss_and_no_gradient(pair, options):
    expected_losses, expected = step(pair(**PLAIN).double())

    losses, gradients = step(pair(**options).double())

    assert list(losses) == list(expected_losses)
    for actual, wanted in ((together(losses), together(expected_losses)), (gradients, expected)):
        assert (actual - wanted).norm() < 1e-10 * wanted.norm()


@pytest.mark.parametrize('options', HALF, ids=str)
@pytest.mark.parametrize('pair', [classifiers, detectors])
def test_a_teacher_in_half_precision_teaches_the_same_within_its_rounding(pair, options):
    expected, expected_gradients = taught(pair(**PLAIN))

    loss, gradients = taught(pair(teacher_options=options))

    eps = torch.finfo(DTYPES[options['dtype']]).eps
    assert 0 < abs(loss - expected) < 4 * eps * expected
    assert F.cosine_similarity(gradients, expected_gradients, dim=0) > 0.999


@pytest.mark.parametrize('options', [{}, *HALF, dict(train_bn=True)], ids=str)
def test_the_teacher_itself_stays_as_it_was_given(options):
    teacher = copy.deepcopy(classifying_teacher())
    before = state_of(teacher)

    distiller = classifiers(teacher=teacher, teacher_options=options)
    step(distiller)

    assert distiller.teacher is teacher
    assert_same_state(state_of(teacher), before)


@pytest.mark.parametrize('options', [{}, dict(dtype='fp32'), *HALF], ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_features_come_in_at_least_the_students_precision(options, dtype):
    features = features_for_the_loss(classifiers(teacher_options=options).to(dtype))

    assert len(features) == 4
    assert {feature.dtype for feature in features} == {dtype}
    assert all(feature.isfinite().all() for feature in features)


def test_by_default_the_teacher_follows_the_students_mixed_precision():
    distiller = classifiers()

    with torch.autocast('cpu', dtype=torch.bfloat16):
        features = features_for_the_loss(distiller)

    assert torch.bfloat16 in {feature.dtype for feature in features}


@pytest.mark.parametrize('autocast', DTYPES.values())
def test_a_teacher_in_single_precision_is_untouched_by_autocast(autocast):
    distiller = classifiers(teacher_options=dict(dtype='fp32'))
    expected = features_for_the_loss(distiller)

    with torch.autocast('cpu', dtype=autocast):
        actual = features_for_the_loss(distiller)

    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize('options', HALF, ids=str)
def test_a_teacher_in_half_precision_leaves_the_student_in_single(options):
    distiller = classifiers(teacher_options=options)
    seen = []
    distiller.student.backbone.register_forward_hook(lambda *args: seen.extend(args[2]))

    losses = losses_of(distiller)

    assert {x.dtype for x in (*seen, *losses.values())} == {torch.float32}
    assert not torch.is_autocast_enabled('cpu')


def test_a_distiller_in_bfloat16_altogether():
    losses, gradients = step(classifiers().bfloat16())

    assert all(loss.isfinite() for loss in losses.values())
    assert gradients.isfinite().all()


def test_batch_statistics_in_half_precision():
    expected = losses_of(classifiers(teacher_options=dict(train_bn=True)))['loss_review']

    actual = losses_of(classifiers(teacher_options=dict(train_bn=True, dtype='bf16')))

    eps = torch.finfo(torch.bfloat16).eps
    assert 0 < abs(actual['loss_review'] - expected) < 4 * eps * expected


def load_state_dict(teacher: nn.Module, other: nn.Module) -> None:
    teacher.load_state_dict(other.state_dict())


def exchange_a_module(teacher: nn.Module, other: nn.Module) -> None:
    teacher.backbone.layer1[0] = copy.deepcopy(other.backbone.layer1[0])


@pytest.mark.parametrize('options', [{}, dict(dtype='bf16'), dict(compile=True)], ids=str)
@pytest.mark.parametrize('load', [load_state_dict, exchange_a_module])
def test_weights_that_change_after_build_count(monkeypatch, load, options):
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='eager'))
    distiller = classifiers(teacher_options=options)
    before = losses_of(distiller)['loss_review']
    other = copy.deepcopy(classifying_teacher())
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.mul_(0.8)

    load(distiller.teacher, other)

    changed = copy.deepcopy(distiller.teacher)
    expected = losses_of(classifiers(teacher=changed, teacher_options=options))['loss_review']
    assert losses_of(distiller)['loss_review'] == expected
    assert abs(expected - before) > 1e-3 * before


@pytest.mark.parametrize('options', [{}, *HALF], ids=str)
def test_copies_of_the_distiller_take_turns(options):
    distiller = classifiers(teacher_options=options)
    average = ExponentialMovingAverage(distiller, momentum=0.5)
    expected = losses_of(distiller)

    for _ in range(2):
        assert losses_of(average.module) == expected
        assert losses_of(distiller) == expected
    with torch.no_grad():
        distiller.student.backbone.layer3[0].bn2.bias.add_(1)
    average.update_parameters(distiller)

    assert losses_of(average.module)['loss_review'] != expected['loss_review']
    assert not any('teacher' in name for name in average.state_dict())


@pytest.mark.parametrize('options', [{}, *HALF, dict(train_bn=True)], ids=str)
def test_a_copy_that_is_cast_leaves_what_the_original_runs(options):
    distiller = classifiers(teacher_options=options)
    expected = losses_of(distiller)

    losses = losses_of(copy.deepcopy(distiller).double())

    assert losses_of(distiller) == expected
    assert distiller.teacher.backbone.conv1.weight.dtype == torch.float32
    whole = classifiers(teacher_options=dict(train_bn=options.get('train_bn', False))).double()
    assert_close64(losses['loss_review'], losses_of(whole)['loss_review'])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(dtype='fp61'), r"^teacher_options: dtype='fp61'.*'bf16'.*did you mean 'fp16'"),
        (dict(dtype=torch.bfloat16), r'^teacher_options: dtype=torch\.bfloat16: expected None'),
        (dict(compile='yes'), r"^teacher_options: compile='yes': expected True or False"),
        (
            dict(train_bm=True),
            r"^teacher_options: there is no 'train_bm'; .*'train_bn'",
        ),
        ('bf16', r"^teacher_options: expected a dict, such as .*, got 'bf16'"),
    ],
)
def test_a_wrong_option_is_named_with_the_choices(options, message):
    with pytest.raises(ValueError, match=message):
        build_distiller(teacher_options=options)


def test_options_by_their_old_names():
    old = build_distiller(teacher_dtype='bf16', teacher_train_bn=True)
    new = build_distiller(teacher_options=TeacherOptions(dtype='bf16', train_bn=True))
    old.load_state_dict(new.state_dict())

    assert losses_of(old) == losses_of(new)
    with pytest.raises(ValueError, match=r"^model: Distiller has .*'teacher_ckpt'"):
        build_distiller(teacher_ckp='random')


def test_options_that_are_gone_are_said_to_have_no_effect(monkeypatch):
    said = []
    logging = 'reviewkd_mm.models.distillers.teacher_options.print_log'
    monkeypatch.setattr(logging, lambda text, *args: said.append(text))

    build_distiller(teacher_fold_bn=True, teacher_stream=False)

    assert said == [
        'teacher_fold_bn has no effect any more',
        'teacher_stream has no effect any more',
    ]


def random_states() -> list[object]:
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]


@pytest.mark.parametrize('options', [{}, dict(dtype='bf16'), dict(train_bn=True)], ids=str)
def test_building_draws_the_same_whatever_the_options(options):
    torch.manual_seed(3)
    build_distiller(**PLAIN)
    states = random_states()

    torch.manual_seed(3)
    build_distiller(teacher_options=options)

    assert random_states() == states


def test_channels_last_initialises_with_the_same_numbers():
    states = []
    for channels_last in (True, False):
        torch.manual_seed(5)
        distiller = build_distiller(student=classifier(WIDE), channels_last=channels_last)
        distiller.init_weights()
        states.append(state_of(distiller))

    assert_same_state(*states)


@pytest.mark.parametrize('channels_last', [True, False])
@pytest.mark.parametrize('initialised', [True, False])
def test_weights_and_features_lie_in_memory_as_asked(channels_last, initialised):
    distiller = build_distiller(student=classifier(WIDE), channels_last=channels_last)
    if initialised:
        distiller.init_weights()
    seen = []
    for model in (distiller.student, distiller.transfers):
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(lambda *args: seen.append(args[2]))

    losses_of(distiller)

    wanted = torch.channels_last if channels_last else torch.contiguous_format
    models = (distiller.student, distiller.transfers, distiller.teacher)
    weights = [p for m in models for p in m.parameters() if p.dim() == 4]
    assert len(seen) > 10
    assert all(tensor.is_contiguous(memory_format=wanted) for tensor in (*weights, *seen))


def test_a_checkpoint_of_one_memory_format_loads_into_the_other(tmp_path):
    for channels_last in (True, False):
        source = build_distiller(student=classifier(WIDE), channels_last=channels_last)
        torch.save(source.state_dict(), tmp_path / 'weights.pth')
        other = build_distiller(student=classifier(WIDE), channels_last=not channels_last)

        other.load_state_dict(torch.load(tmp_path / 'weights.pth'))

        assert_same_state(state_of(other), state_of(source))
        wanted = torch.contiguous_format if channels_last else torch.channels_last
        weight = other.student.backbone.layer1[0].conv1.weight
        assert weight.is_contiguous(memory_format=wanted)


class Sequences(nn.Module):
    """A backbone with a weight of five dimensions, which have no channels_last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 8, (1, 3, 3))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.conv(x[:, :, None])[:, :, 0],)


@pytest.mark.parametrize('role', ['student', 'teacher'])
def test_weights_of_other_dimensions_do_no_harm(role):
    cfg = classifier(backbone=dict(type=Sequences))
    cfg['head']['in_channels'] = 8
    models = dict(student=classifier((8, 8, 8, 8)), teacher=classifier((8, 8, 8, 8)))
    taps = dict.fromkeys(models, 'backbone.conv1')
    models[role], taps[role] = cfg, 'backbone'

    distiller = build_distiller(**models, transfers=dict(review=review(**taps)))

    assert losses_of(distiller)['loss_review'].isfinite()
