"""How the teacher is run: every option against the plain path, through whole training steps."""

from __future__ import annotations

import copy
import functools
import random
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reviewkd_mm.models.distillers import Distiller, fold_batch_norm, teacher_options
from tests.integration.detection import CAFFE, raw_batch, retinanet
from tests.models.distillers.helpers import (
    STAGES,
    WIDE,
    assert_same_state,
    batch,
    build_distiller,
    classifier,
    logits,
    review,
    state_of,
    teacher_classifier,
    total,
)

PLAIN = dict(channels_last=False, teacher_fold_bn=False)
EXACT = [
    dict(PLAIN, channels_last=True),
    dict(PLAIN, teacher_fold_bn=True),
    dict(channels_last=True, teacher_fold_bn=True),
    dict(teacher_dtype='fp32'),
    dict(teacher_stream=True),
    dict(),
]
HALF = [
    dict(PLAIN, teacher_dtype='bf16'),
    dict(PLAIN, teacher_dtype='fp16'),
    dict(teacher_dtype='bf16'),
    dict(teacher_dtype='fp16'),
]
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


def plain_like(distiller: Distiller) -> Distiller:
    """Build a distiller with the same weights that runs its teacher as it is."""
    teacher = copy.deepcopy(distiller.teacher)
    plain = build_distiller(
        student=classifier(WIDE),
        teacher=teacher,
        teacher_ckpt=None,
        transfers=dict(review=review(), kd=logits()),
        **PLAIN,
    )
    plain.load_state_dict(distiller.state_dict())
    return plain


def assert_taught_alike(actual: Distiller, expected: Distiller, rtol: float = 1e-5) -> None:
    (loss, gradient), (expected_loss, expected_gradient) = taught(actual), taught(expected)
    torch.testing.assert_close(loss, expected_loss, rtol=rtol, atol=0)
    assert (gradient - expected_gradient).norm() <= rtol * expected_gradient.norm()


def features_for_the_loss(distiller: Distiller) -> list[Tensor]:
    """Run a step and return the teacher's features as the review loss gets them."""
    seen: list[Tensor] = []
    loss = distiller.transfers.review.loss
    handle = loss.register_forward_pre_hook(lambda _, args: seen.extend(args[1]))
    losses_of(distiller)
    handle.remove()
    return seen


@pytest.mark.parametrize('options', EXACT, ids=str)
@pytest.mark.parametrize(
    ('pair', 'dtype', 'tolerance'),
    [
        (classifiers, torch.float32, 1e-5),
        (classifiers, torch.float64, 1e-10),
        # A student's BatchNorm over the few pixels of a deep stage enlarges what rounding leaves.
        (detectors, torch.float32, 1e-4),
        (detectors, torch.float64, 1e-10),
    ],
)
def test_exact_options_change_no_loss_and_no_gradient(pair, dtype, tolerance, options):
    expected_losses, expected = step(pair(**PLAIN).to(dtype))

    losses, gradients = step(pair(**options).to(dtype))

    assert list(losses) == list(expected_losses)
    for actual, wanted in ((together(losses), together(expected_losses)), (gradients, expected)):
        assert (actual - wanted).norm() < tolerance * wanted.norm()


@pytest.mark.parametrize('options', HALF, ids=str)
@pytest.mark.parametrize('pair', [classifiers, detectors])
def test_a_teacher_in_half_precision_teaches_the_same_within_its_rounding(pair, options):
    expected_losses, _ = step(pair(**PLAIN))
    _, expected = taught(pair(**PLAIN))

    losses, _ = step(pair(**options))
    _, gradients = taught(pair(**options))

    assert list(losses) == list(expected_losses)
    torch.testing.assert_close(losses, expected_losses, rtol=1e-2, atol=1e-3)
    assert losses['loss_review'] != expected_losses['loss_review']
    assert F.cosine_similarity(gradients, expected, dim=0) > 0.999


@pytest.mark.parametrize('pair', [classifiers, detectors])
@pytest.mark.parametrize('options', [{}, *HALF[2:]], ids=str)
def test_batchnorm_is_folded_in_what_is_run_alone(pair, options):
    distiller = pair(**options)
    folded = norms(distiller._teacher._running.backbone)

    assert not folded
    assert len(norms(distiller.teacher.backbone)) in (9, 20)


@pytest.mark.parametrize('options', [{}, *HALF], ids=str)
def test_the_teacher_itself_stays_as_it_was_given(options):
    teacher = copy.deepcopy(classifying_teacher())
    before = state_of(teacher)

    distiller = classifiers(teacher=teacher, **options)
    step(distiller)

    assert distiller.teacher is teacher
    assert_same_state(state_of(teacher), before)


@pytest.mark.parametrize('options', HALF[2:], ids=str)
def test_weights_are_kept_in_the_precision_in_which_they_are_used(options):
    running = classifiers(**options)._teacher._running

    convs = [m for m in running.modules() if isinstance(m, nn.Conv2d)]
    assert {conv.weight.dtype for conv in convs} == {DTYPES[options['teacher_dtype']]}


class ByItself(nn.Module):
    """A backbone of which a part computes in the precision of its input whatever autocast says."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        dtype = x.dtype
        for name in ('stem', 'body'):
            enabled = torch.is_autocast_enabled(x.device.type) and name != self.part
            with torch.autocast(x.device.type, enabled=enabled):
                x = getattr(self, name)(x if enabled else x.to(dtype))
        return (x,)


@pytest.mark.parametrize('fold', [True, False])
@pytest.mark.parametrize('part', ['stem', 'body'])
def test_a_teacher_of_which_a_part_computes_outside_of_autocast(part, fold):
    teacher = teacher_classifier(backbone=dict(type=ByItself, part=part))
    teacher['head']['in_channels'] = 8
    transfers = dict(review=review(student='backbone.layer1', teacher='backbone.body'))
    results = []
    for dtype in ('bf16', 'fp32'):
        torch.manual_seed(0)
        distiller = build_distiller(
            teacher=teacher, teacher_dtype=dtype, teacher_fold_bn=fold, transfers=transfers
        )
        results.append(distiller.loss(*batch())['loss_review'])

    torch.testing.assert_close(*results, rtol=1e-2, atol=0)


@pytest.mark.parametrize('options', [{}, dict(teacher_dtype='fp32'), *HALF], ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_features_come_in_at_least_the_students_precision(options, dtype):
    features = features_for_the_loss(classifiers(**options).to(dtype))

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
    distiller = classifiers(teacher_dtype='fp32')
    expected = features_for_the_loss(distiller)

    with torch.autocast('cpu', dtype=autocast):
        actual = features_for_the_loss(distiller)

    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize('options', HALF[2:], ids=str)
def test_a_teacher_in_half_precision_leaves_the_student_in_single(options):
    distiller = classifiers(**options)
    seen = []
    distiller.student.backbone.register_forward_hook(lambda *args: seen.extend(args[2]))

    losses = losses_of(distiller)

    assert {x.dtype for x in (*seen, *losses.values())} == {torch.float32}
    assert not torch.is_autocast_enabled('cpu')


def test_a_distiller_in_bfloat16_altogether():
    losses, gradients = step(classifiers().bfloat16())

    assert all(loss.isfinite() for loss in losses.values())
    assert gradients.isfinite().all()


Load = Callable[[nn.Module, nn.Module], None]


def load_state_dict(teacher: nn.Module, other: nn.Module) -> None:
    teacher.load_state_dict(other.state_dict())


def copy_in_place(teacher: nn.Module, other: nn.Module) -> None:
    with torch.no_grad():
        for own, new in zip(teacher.parameters(), other.parameters(), strict=True):
            own.copy_(new)


def assign_to_a_part(teacher: nn.Module, other: nn.Module) -> None:
    teacher.backbone.load_state_dict(other.backbone.state_dict(), assign=True)


def change_one_buffer(teacher: nn.Module, other: nn.Module) -> None:
    teacher.backbone.bn1.running_mean += 0.5


def exchange_data(teacher: nn.Module, other: nn.Module) -> None:
    teacher.backbone.conv1.weight.data = other.backbone.conv1.weight.data.clone()


def exchange_a_parameter(teacher: nn.Module, other: nn.Module) -> None:
    conv = teacher.backbone.layer1[0].conv1
    conv.weight = nn.Parameter(2 * conv.weight.detach(), requires_grad=False)


def exchange_a_module(teacher: nn.Module, other: nn.Module) -> None:
    teacher.backbone.layer1[0].conv1 = copy.deepcopy(other.backbone.layer1[0].conv1)


@pytest.mark.parametrize('options', [{}, dict(teacher_dtype='fp32')], ids=str)
@pytest.mark.parametrize(
    'load',
    [
        load_state_dict,
        copy_in_place,
        assign_to_a_part,
        change_one_buffer,
        exchange_data,
        exchange_a_parameter,
        exchange_a_module,
    ],
)
def test_weights_that_change_after_build_count(load: Load, options):
    distiller = classifiers(**options)
    before = losses_of(distiller)['loss_review']
    with torch.no_grad():
        other = copy.deepcopy(classifying_teacher())
        for tensor in other.parameters():
            tensor.mul_(0.8)

    load(distiller.teacher, other)

    expected = plain_like(distiller)
    # The old weights would be a hundred times as far off as this.
    assert_taught_alike(distiller, expected, rtol=5e-5)
    assert abs(losses_of(distiller)['loss_review'] - before) > 1e-3 * before
    assert_taught_alike(distiller, expected, rtol=5e-5)


def test_weights_that_change_count_in_half_precision_too():
    distiller = classifiers(teacher_dtype='bf16')
    before = losses_of(distiller)['loss_review'].item()

    with torch.no_grad():
        distiller.teacher.backbone.conv1.weight.mul_(3)

    expected = losses_of(plain_like(distiller))['loss_review'].item()
    assert abs(before - expected) > 0.1 * expected
    assert losses_of(distiller)['loss_review'].item() == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize('options', [{}, *HALF[2:]], ids=str)
def test_whoever_watches_the_teacher_sees_its_calls(options):
    distiller = classifiers(**options)
    seen = []

    handle = distiller.teacher.backbone.bn1.register_forward_hook(
        lambda module, args, output: seen.append((args[0], output))
    )
    losses_of(distiller)
    handle.remove()
    losses_of(distiller)

    ((before, after),) = seen
    expected = distiller.teacher.backbone.bn1(before)
    torch.testing.assert_close(after, expected, rtol=1e-2, atol=1e-2)
    assert not torch.equal(before, after)
    assert not norms(distiller._teacher._running.backbone)


def test_watching_changes_no_loss():
    distiller = classifiers()
    expected = losses_of(distiller)['loss_review']

    distiller.teacher.neck.register_forward_pre_hook(lambda *args: None)

    torch.testing.assert_close(losses_of(distiller)['loss_review'], expected, rtol=1e-5, atol=0)


def test_hooks_from_before_the_build_see_the_calls():
    teacher = copy.deepcopy(classifying_teacher())
    seen = []
    teacher.backbone.layer1.register_forward_hook(lambda *args: seen.append(args[2]))
    distiller = classifiers(teacher=teacher)
    seen.clear()

    losses_of(distiller)

    assert len(seen) == 1


@pytest.mark.parametrize('options', [{}, dict(teacher_dtype='fp32')], ids=str)
def test_folding_is_exact_after_a_cast(options):
    distiller, expected = classifiers(**options).double(), classifiers(**PLAIN).double()

    assert_taught_alike(distiller, expected, rtol=1e-10)
    assert not norms(distiller._teacher._running.backbone)

    assert_taught_alike(distiller.float(), expected.float())


def test_what_the_rounding_of_a_model_in_half_precision_would_hide_is_not_folded():
    """Three percent are less than the square root of bfloat16's precision."""
    teacher = copy.deepcopy(classifying_teacher())
    norm = teacher.backbone.layer1[0].bn1
    with torch.no_grad():
        for value, tensors in ((0, (norm.bias, norm.running_mean)), (1, (norm.running_var,))):
            for tensor in tensors:
                tensor.fill_(value)
        norm.weight.fill_(1.03)
    taps = ['backbone.layer1.0.conv1', *STAGES[1:]]
    distiller = classifiers(teacher=teacher, transfers=dict(review=review(teacher=taps)))

    losses_of(distiller.bfloat16())

    (left,) = norms(distiller._teacher._running.backbone)
    torch.testing.assert_close(left.weight, norm.weight)


def test_batch_statistics_are_not_folded():
    distiller = classifiers(teacher_train_bn=True)
    expected = classifiers(teacher_train_bn=True, teacher_fold_bn=False)

    assert torch.equal(losses_of(distiller)['loss_review'], losses_of(expected)['loss_review'])
    assert distiller._teacher._running is distiller.teacher
    plain = classifiers(teacher_train_bn=True, **PLAIN)
    assert_taught_alike(distiller.double(), plain.double())


def test_batch_statistics_in_half_precision():
    expected = losses_of(classifiers(teacher_train_bn=True))['loss_review']

    actual = losses_of(classifiers(teacher_train_bn=True, teacher_dtype='bf16'))['loss_review']

    torch.testing.assert_close(actual, expected, rtol=2e-2, atol=0)


@pytest.mark.parametrize('options', [{}, *HALF[2:]], ids=str)
def test_the_copy_that_is_run_is_no_part_of_the_distiller(options):
    distiller = classifiers(**options)
    step(distiller)
    running = distiller._teacher._running
    own = {id(x) for x in (*distiller.parameters(), *distiller.buffers(), *distiller.modules())}

    assert running is not distiller.teacher
    parts = (*running.parameters(), *running.buffers(), *running.modules())
    assert not own & {id(part) for part in parts}
    assert {name.partition('.')[0] for name in distiller.state_dict()} == {'student', 'transfers'}
    assert not any(p.requires_grad or p.grad is not None for p in running.parameters())


@pytest.mark.parametrize('options', [{}, *HALF[2:]], ids=str)
def test_copies_of_the_distiller_take_turns(options):
    distiller = classifiers(**options)
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


@pytest.mark.parametrize('options', [{}, *HALF[2:]], ids=str)
def test_a_copy_that_is_cast_leaves_what_the_original_runs(options):
    distiller = classifiers(**options)
    running, expected = distiller._teacher._running, losses_of(distiller)

    copied = copy.deepcopy(distiller).double()
    losses = losses_of(copied)

    assert losses_of(distiller) == expected
    assert distiller._teacher._running is running
    assert copied._teacher._running is not running
    torch.testing.assert_close(
        losses['loss_review'], expected['loss_review'].double(), rtol=1e-2, atol=0
    )


@pytest.mark.parametrize(
    'value', ['bfloat16', 'float16', 'half', '', 'BF16', 16, torch.bfloat16, False]
)
def test_a_wrong_dtype_names_the_key_and_the_choices(value):
    with pytest.raises(ValueError, match=r'^teacher_dtype=') as caught:
        build_distiller(teacher_dtype=value)

    message = str(caught.value)
    assert repr(value) in message
    assert all(f"'{name}'" in message for name in ('bf16', 'fp16', 'fp32'))


def test_the_nearest_dtype_is_named():
    with pytest.raises(ValueError, match=r"teacher_dtype='fp61'.*did you mean 'fp16'"):
        build_distiller(teacher_dtype='fp61')


def random_states() -> list[object]:
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]


@pytest.mark.parametrize('options', [{}, *HALF[2:], dict(teacher_stream=True)], ids=str)
def test_preparing_the_teacher_draws_nothing(options):
    distiller = classifiers(**options)
    running, states = distiller._teacher._running, random_states()

    losses_of(distiller)
    load_state_dict(distiller.teacher, classifying_teacher())
    losses_of(distiller)

    assert distiller._teacher._running is not running
    assert random_states() == states


@pytest.mark.parametrize('options', [{}, *HALF[2:], dict(teacher_train_bn=True)], ids=str)
def test_building_draws_the_same_whatever_the_options(options):
    torch.manual_seed(3)
    build_distiller(**PLAIN)
    states = random_states()

    torch.manual_seed(3)
    build_distiller(**options)

    assert random_states() == states


def test_nothing_is_prepared_again_without_a_reason(monkeypatch):
    classifying_teacher()  # Building it counts too.
    calls = []
    fold = teacher_options.fold_batch_norm

    def counted(*args) -> int:
        calls.append(args)
        return fold(*args)

    monkeypatch.setattr(teacher_options, 'fold_batch_norm', counted)
    distiller = classifiers()
    assert len(calls) == 1
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.01)

    for _ in range(3):
        optimizer.zero_grad()
        step(distiller)
        optimizer.step()
        distiller.eval(), distiller.train()
        distiller.teacher.train()
        copy.deepcopy(distiller)
    distiller.init_weights()
    losses_of(distiller)
    assert len(calls) == 1

    load_state_dict(distiller.teacher, classifying_teacher())
    losses_of(distiller), losses_of(distiller)
    assert len(calls) == 2


@pytest.mark.parametrize('options', [{}, *HALF[2:]], ids=str)
@pytest.mark.parametrize('pair', [classifiers, detectors])
def test_build_runs_the_teacher_a_few_times_alone(monkeypatch, pair, options):
    pair()  # The teacher that the tests share is built with the first pair.
    forwards = []
    gives = fold_batch_norm._gives

    def counted(*args) -> bool:
        forwards.append(args)
        return gives(*args)

    monkeypatch.setattr(fold_batch_norm, '_gives', counted)

    pair(**options)

    assert len(forwards) == 1


def test_a_running_copy_stays_in_eval_mode():
    distiller = classifiers()

    distiller.train()
    distiller.teacher.train()
    losses_of(distiller)

    running = distiller._teacher._running
    assert not any(module.training for module in running.modules() if [*module.parameters()])


def locked(teacher: nn.Module) -> None:
    """Hold something that cannot be copied."""
    teacher.backbone.lock = threading.Lock()


def wrapped(teacher: nn.Module) -> None:
    """Wrap a forward, whose copy would go on calling the original."""
    stage = teacher.backbone.layer1
    forward = stage.forward
    stage.forward = lambda *args: forward(*args)


@pytest.mark.parametrize('spoil', [locked, wrapped])
@pytest.mark.parametrize('options', [{}, *HALF[2:]], ids=str)
def test_a_teacher_that_cannot_be_copied_runs_as_it_is(spoil, options):
    teacher = copy.deepcopy(classifying_teacher())
    spoil(teacher)
    taps = ['backbone.layer1.0', *STAGES[1:]]
    transfers = dict(review=review(teacher=taps))

    losses = losses_of(classifiers(teacher=teacher, transfers=transfers, **options))

    expected = losses_of(classifiers(transfers=transfers, **PLAIN))
    torch.testing.assert_close(
        losses['loss_review'], expected['loss_review'], rtol=1e-2 if options else 1e-5, atol=0
    )


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
    models = (distiller.student, distiller.transfers, distiller._teacher._running)
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
