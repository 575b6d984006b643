"""Loading into a distiller is strict, through MMEngine's Runner and through torch alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner, load_checkpoint

from reviewkd_mm.models.distillers import Distiller
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    assert_same_state,
    build,
    build_distiller,
    classifier,
    distiller_cfg,
    logits,
    review,
    runner_cfg,
    state_of,
    train,
)

HEAD = 'student.head.fc.'
NO_FLIP = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='reviewkd_mm.TinyImages', flip=False),
)


def other_weights(**kwargs) -> dict[str, torch.Tensor]:
    """Weights that differ from those of a fresh distiller everywhere."""
    torch.manual_seed(99)
    distiller = build_distiller(**kwargs)
    state = distiller.state_dict()
    return {name: v + 1 if v.is_floating_point() else v for name, v in state.items()}


def by_torch(distiller: Distiller, weights: dict, path: Path) -> None:
    distiller.load_state_dict(weights)


def by_mmengine(distiller: Distiller, weights: dict, path: Path) -> None:
    torch.save(dict(state_dict=weights, meta=dict()), path / 'checkpoint.pth')
    load_checkpoint(distiller, str(path / 'checkpoint.pth'))


def by_load_from(distiller: Distiller, weights: dict, path: Path) -> None:
    torch.save(dict(state_dict=weights, meta=dict()), path / 'checkpoint.pth')
    options = dict(load_from=str(path / 'checkpoint.pth'), experiment_name=path.name)
    Runner(distiller, str(path), log_level='ERROR', **options).load_or_resume()


either_way = pytest.mark.parametrize('load', [by_torch, by_mmengine])
every_way = pytest.mark.parametrize('load', [by_torch, by_mmengine, by_load_from])
Load = Callable[[Distiller, dict, Path], None]


def without(weights: dict, prefix: str) -> dict:
    return {name: v for name, v in weights.items() if not name.startswith(prefix)}


def student_of(weights: dict, prefix: str = '') -> dict:
    return {
        prefix + name.removeprefix('student.'): v
        for name, v in weights.items()
        if name.startswith('student.')
    }


@every_way
def test_all_weights_are_loaded(tmp_path, load: Load):
    distiller, weights = build_distiller(), other_weights()

    load(distiller, weights, tmp_path)

    assert_same_state(dict(distiller.state_dict()), weights)


@either_way
@pytest.mark.parametrize(
    ('prefix', 'problem'),
    [
        (HEAD, r'2 missing \(student\.head\.fc\.bias, student\.head\.fc\.weight\)'),
        ('student.', r'missing \(student\.backbone'),
        ('transfers.', r'missing \(transfers\.review\.connector\.abfs'),
    ],
)
def test_missing_weights_are_an_error(tmp_path, load: Load, prefix, problem):
    with pytest.raises(RuntimeError, match=problem):
        load(build_distiller(), without(other_weights(), prefix), tmp_path)


@either_way
@pytest.mark.parametrize('name', ['student.neck.scale', 'transfers.kd.loss.tau', 'teacher.fc'])
def test_unexpected_weights_are_an_error(tmp_path, load: Load, name):
    weights = {**other_weights(), name: torch.ones(1)}

    with pytest.raises(RuntimeError, match=rf'1 unexpected \({name}\)'):
        load(build_distiller(), weights, tmp_path)


@either_way
def test_weights_of_another_shape_are_an_error(tmp_path, load: Load):
    weights = other_weights()
    weights[f'{HEAD}weight'] = torch.ones(7, 16)

    with pytest.raises(RuntimeError, match=r'student\.head\.fc\.weight.*7, 16.*5, 16'):
        load(build_distiller(), weights, tmp_path)


@every_way
def test_a_checkpoint_of_which_nothing_fits_is_an_error(tmp_path, load: Load):
    weights = {'encoder.weight': torch.ones(2), 'decoder.weight': torch.ones(2)}

    with pytest.raises(RuntimeError, match=r'does not fit.*missing.*2 unexpected'):
        load(build_distiller(), weights, tmp_path)


@either_way
def test_an_empty_checkpoint_is_an_error(tmp_path, load: Load):
    with pytest.raises(RuntimeError, match=r'does not fit.*missing'):
        load(build_distiller(), {}, tmp_path)


@every_way
def test_a_plain_student_checkpoint_leaves_the_connectors(tmp_path, load: Load):
    distiller, weights = build_distiller(), other_weights()
    connectors = state_of(distiller.transfers)

    load(distiller, student_of(weights), tmp_path)

    assert_same_state(dict(distiller.student.state_dict()), student_of(weights))
    assert_same_state(state_of(distiller.transfers), connectors)


@either_way
def test_a_plain_student_checkpoint_must_fit_too(tmp_path, load: Load):
    weights = student_of(other_weights())
    del weights['head.fc.bias']

    with pytest.raises(RuntimeError, match=r'1 missing \(student\.head\.fc\.bias\)'):
        load(build_distiller(), weights, tmp_path)


@pytest.mark.parametrize('plain', [True, False])
def test_prefix_of_a_parallel_wrapper_is_dropped(tmp_path, plain):
    distiller, weights = build_distiller(), other_weights()
    saved = student_of(weights) if plain else weights

    by_load_from(distiller, {f'module.{name}': v for name, v in saved.items()}, tmp_path)

    assert_same_state(dict(distiller.student.state_dict()), student_of(weights))


@either_way
@pytest.mark.parametrize('patterns', [[f'{HEAD}*'], f'{HEAD}*', ['student.head.*']])
@pytest.mark.parametrize('change', ['shape', 'missing', 'unexpected', 'plain'])
def test_a_differing_head_needs_its_pattern(tmp_path, load: Load, change, patterns):
    distiller, weights = build_distiller(allow_mismatch=patterns), other_weights()
    head = state_of(distiller.student.head)
    weights[f'{HEAD}weight'], weights[f'{HEAD}bias'] = torch.ones(7, 16), torch.ones(7)
    if change == 'missing':
        weights = without(weights, HEAD)
    if change == 'unexpected':
        weights[f'{HEAD}scale'] = torch.ones(1)
    if change == 'plain':
        weights = student_of(weights)

    load(distiller, weights, tmp_path)

    expected = other_weights()
    assert torch.equal(
        distiller.student.backbone.conv1.weight, expected['student.backbone.conv1.weight']
    )
    assert_same_state(state_of(distiller.student.head), head)


@either_way
def test_a_pattern_allows_nothing_else(tmp_path, load: Load):
    weights = without(other_weights(), 'student.backbone.conv1.')

    with pytest.raises(RuntimeError, match=r'1 missing \(student\.backbone\.conv1\.weight\)'):
        load(build_distiller(allow_mismatch=f'{HEAD}*'), weights, tmp_path)


def test_a_checkpoint_of_other_transfers_is_an_error():
    weights = other_weights(transfers=dict(other=review()))

    with pytest.raises(RuntimeError, match=r'missing \(transfers\.review.*transfers\.other'):
        build_distiller().load_state_dict(weights)


def test_a_distiller_without_connectors_loads():
    options = dict(transfers=dict(kd=logits()))
    distiller, weights = build_distiller(**options), other_weights(**options)

    distiller.load_state_dict(weights)

    assert_same_state(dict(distiller.state_dict()), weights)


def vision_transformer(image_size: int) -> dict:
    arch = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)
    backbone = dict(type='VisionTransformer', arch=arch, img_size=image_size, patch_size=8)
    head = dict(type='VisionTransformerClsHead', num_classes=5, in_channels=8)
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=head)


def test_shapes_that_the_model_resizes_are_no_mismatch(tmp_path):
    small = build(vision_transformer(32)).state_dict()
    torch.save(small, tmp_path / 'teacher.pth')
    model, transfers = vision_transformer(64), dict(kd=logits())

    distiller = build_distiller(
        student=model,
        teacher=model,
        teacher_ckpt=str(tmp_path / 'teacher.pth'),
        transfers=transfers,
    )
    distiller.load_state_dict(small)

    weights = distiller.student.backbone.pos_embed
    assert weights.shape == (1, 65, 8)
    assert torch.equal(weights, distiller.teacher.backbone.pos_embed)


def test_training_starts_from_a_student_checkpoint(tmp_path):
    weights = build(classifier(), seed=5)
    torch.save(dict(state_dict=weights.state_dict()), tmp_path / 'student.pth')

    runner = train(
        distiller_cfg(),
        tmp_path,
        load_from=str(tmp_path / 'student.pth'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        **NO_VALIDATION,
    )

    trained = dict(runner.model.student.named_parameters())
    assert_same_state(trained, dict(weights.named_parameters()))


def test_resuming_goes_on_where_the_training_stopped(tmp_path):
    options = dict(NO_VALIDATION, train_dataloader=NO_FLIP)
    whole = train(distiller_cfg(), tmp_path / 'whole', **options)
    options.update(load_from=str(tmp_path / 'whole' / 'epoch_1.pth'), resume=True)

    resumed = train(distiller_cfg(), tmp_path / 'resumed', **options)

    assert_same_state(state_of(resumed.model), state_of(whole.model))


def test_resuming_from_another_distiller_is_an_error(tmp_path):
    train(distiller_cfg(), tmp_path / 'first', **NO_VALIDATION)
    last = str(tmp_path / 'first' / 'epoch_2.pth')
    other = distiller_cfg(transfers=dict(kd=logits()))
    cfg = runner_cfg(other, tmp_path / 'second', load_from=last, resume=True, **NO_VALIDATION)

    with pytest.raises(RuntimeError, match=r'unexpected \(transfers\.review'):
        Runner.from_cfg(cfg).train()


def test_an_ema_checkpoint_loads_and_resumes(tmp_path):
    ema = dict(custom_hooks=[dict(type='EMAHook', momentum=0.5)])
    train(distiller_cfg(), tmp_path / 'first', **ema, **NO_VALIDATION)
    last = str(tmp_path / 'first' / 'epoch_2.pth')
    saved = torch.load(last, weights_only=False)

    distiller = build_distiller()
    load_checkpoint(distiller, last)
    options = dict(load_from=str(tmp_path / 'first' / 'epoch_1.pth'), resume=True)
    resumed = train(distiller_cfg(), tmp_path / 'second', **ema, **options, **NO_VALIDATION)

    assert_same_state(dict(distiller.state_dict()), dict(saved['state_dict']))
    assert not any('teacher' in name for name in [*saved['state_dict'], *saved['ema_state_dict']])
    assert resumed.iter == 4
