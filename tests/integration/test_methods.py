"""The methods that ReviewKD is compared with, from their configs, in a distiller."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from reviewkd_mm.models.distillers import Distiller
from tests.configs.reading import CONFIGS
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    NUM_CLASSES,
    assert_same_state,
    batch,
    build_distiller,
    distiller_cfg,
    review,
    state_of,
    total,
    train,
)
from tests.models.distillers.test_compiled import use_backend
from tests.models.distillers.test_no_sync import waits
from tests.numbers import assert_close64, assert_within_rounding

METHODS = ('fitnet', 'at', 'sp', 'rkd', 'ofd', 'dkd', 'dist', 'crd')
NUM_SAMPLES = 32


def transfer_of(method: str, **loss: Any) -> dict:
    """Return the transfer of a config, for a small data set and without the warm-up."""
    file = CONFIGS / '_base_' / 'transfers' / f'{method}_cifar_resnet.py'
    cfg = copy.deepcopy(Config.fromfile(file)[f'{method}_cifar_resnet'].to_dict())
    cfg.pop('warmup_epochs', None)
    if method == 'crd':
        loss = dict(num_samples=NUM_SAMPLES, num_negatives=16, **loss)
    cfg['loss'].update(loss)
    return cfg


def indexed_batch(count: int = 6, seed: int = 0) -> tuple[Tensor, list]:
    inputs, samples = batch(count, seed)
    for index, sample in enumerate(samples):
        sample.set_metainfo(dict(sample_idx=3 * index))
    return inputs, samples


def distiller_of(method: str, **kwargs: Any) -> Distiller:
    torch.manual_seed(0)
    return build_distiller(transfers={method: transfer_of(method)}, **kwargs)


@pytest.mark.parametrize('method', METHODS)
def test_a_few_steps_lower_the_loss_on_a_batch(method):
    distiller = distiller_of(method)
    inputs, samples = indexed_batch()
    parameters = [p for p in distiller.parameters() if p.requires_grad]
    values = []
    for _ in range(12):
        torch.manual_seed(1)  # The same negatives in each step.
        loss = distiller.loss(inputs, samples)[f'loss_{method}']
        values.append(loss.item())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        norm = torch.stack([g.norm() for g in gradients if g is not None]).norm()
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(0.05 * gradient / norm)

    assert values[-1] < 0.95 * values[0]


@pytest.mark.usefixtures('in_float64')
@pytest.mark.parametrize('method', METHODS)
def test_a_step_in_float64_trains_all_of_the_transfer_and_nothing_of_the_teacher(method):
    distiller = distiller_of(method)
    kept = state_of(distiller.teacher)

    losses = distiller.loss(*indexed_batch())
    total(losses).backward()

    assert losses[f'loss_{method}'].dtype == torch.float64
    assert all(p.grad.dtype == torch.float64 for p in distiller.student.parameters())
    assert all(p.grad is not None for p in distiller.transfers.parameters())
    assert all(p.grad is None for p in distiller.teacher.parameters())
    assert_same_state(state_of(distiller.teacher), kept)


def cast(features: Any, dtype: torch.dtype) -> Any:
    """Cast the tensors among what a loss is given."""
    if isinstance(features, (list, tuple)):
        return [cast(feature, dtype) for feature in features]
    return features.to(dtype) if isinstance(features, Tensor) else features


@pytest.mark.parametrize('method', METHODS)
def test_of_features_in_half_precision_the_loss_is_computed_in_single(method):
    distiller = distiller_of(method)
    given = []
    distiller.transfers[method].loss.register_forward_pre_hook(
        lambda *args: given.append((copy.deepcopy(args[0]), *args[1:], torch.get_rng_state())),
        with_kwargs=True,
    )

    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = distiller.loss(*indexed_batch())[f'loss_{method}']

    assert value.dtype == torch.float32
    ((loss, features, samples, random_state),) = given
    values = []
    for dtype in (torch.float32, torch.float64):
        torch.set_rng_state(random_state)
        values.append(copy.deepcopy(loss).to(dtype)(*cast(features, dtype), **samples))
    assert_within_rounding(value, *values)


@pytest.mark.parametrize('method', METHODS)
def test_a_step_makes_no_device_wait(method):
    distiller = distiller_of(method)
    inputs, samples = indexed_batch()

    found = [waits(lambda: total(distiller.loss(inputs, samples)).backward()) for _ in range(2)]

    assert found == [[], []]


@pytest.mark.usefixtures('in_float64')
@pytest.mark.parametrize('method', METHODS)
def test_compiled_it_gives_the_same_and_is_compiled_once(monkeypatch, method):
    torch.compiler.reset()
    expected = steps(distiller_of(method))
    use_backend(monkeypatch, 'eager')
    compiled = distiller_of(method, transfers_compile=True)

    actual = [steps(compiled, 1)]
    with torch.compiler.set_stance('fail_on_recompile'):
        actual += [steps(compiled, 1, first=seed) for seed in (1, 2)]

    assert_close64([value for step in actual for value in step], expected)
    torch.compiler.reset()


def steps(distiller: Distiller, count: int = 3, first: int = 0) -> list[Tensor]:
    values = []
    for seed in range(first, first + count):
        torch.manual_seed(seed)
        inputs, samples = indexed_batch(seed=seed)
        for sample in samples:
            sample.set_metainfo(dict(sample_idx=sample.sample_idx + seed))
            sample.set_gt_label((int(sample.gt_label) + seed) % NUM_CLASSES)
        losses = distiller.loss(inputs, samples)
        values.append(next(v for k, v in losses.items() if k != 'loss_cls').detach())
    return values


def test_all_together_with_review():
    transfers = {method: transfer_of(method) for method in METHODS}
    distiller = build_distiller(transfers=dict(review=review(), **transfers))

    losses = distiller.loss(*indexed_batch())

    assert list(losses) == ['loss_cls', 'loss_review', *(f'loss_{m}' for m in METHODS)]


def test_what_a_contrastive_loss_remembers_is_saved_and_loaded():
    distiller = distiller_of('crd')
    distiller.loss(*indexed_batch())
    other = distiller_of('crd')

    other.load_state_dict(distiller.state_dict())

    assert 'transfers.crd.loss.teacher_bank.vectors' in distiller.state_dict()
    assert_same_state(state_of(other), state_of(distiller))
    other.load_state_dict(distiller.student.state_dict())


def test_decoupled_distillation_trains_in_a_runner(tmp_path):
    model = distiller_cfg(transfers=dict(dkd=transfer_of('dkd')))

    runner = train(model, tmp_path, **NO_VALIDATION)

    assert runner.message_hub.get_scalar('train/loss_dkd').current() > 0


def test_a_sample_without_its_index_is_an_error_of_the_transfer():
    distiller = distiller_of('crd')

    with pytest.raises(ValueError, match=r'^transfers\.crd: .*sample_idx=None'):
        distiller.loss(*batch())


def test_wrong_features_are_refused_at_build():
    wrong = dict(transfer_of('rkd'), student='backbone.layer1')

    with pytest.raises(ValueError, match=r'^transfers\.rkd\.loss: expected student features'):
        build_distiller(transfers=dict(rkd=wrong))


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(in_channels=7), r'in_channels=7, but the taps give \[16\]'),
        (dict(num_negatives=0), 'num_negatives=0'),
        (dict(student=['neck', 'backbone.layer3']), 'in_channels=.*one feature'),
    ],
)
def test_a_loss_with_channels_is_checked_at_build(given, message):
    cfg = transfer_of('crd')
    if 'student' in given:
        cfg.update(given)
    else:
        cfg['loss'].update(given)

    with pytest.raises(ValueError, match=rf'^transfers\.crd\.loss: .*{message}'):
        build_distiller(transfers=dict(crd=cfg))


def test_a_loss_gets_the_channels_after_the_connector():
    cfg = dict(transfer_of('crd'), connector=dict(type='ConvRegressor'))

    loss = build_distiller(transfers=dict(crd=cfg)).transfers.crd.loss

    assert (loss.embed_student.in_features, loss.embed_teacher.in_features) == (32, 32)


def test_losses_with_weights_start_the_same_whatever_the_seed():
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        distiller = build_distiller(transfers=dict(crd=transfer_of('crd')))
        states.append(distiller.transfers.crd.loss.state_dict())

    assert_same_state(*states)
