"""The distiller in MMEngine's Runner: what starts, what is seen, what is trained and averaged."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner

from reviewkd_mm.registry import MODELS
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    PIXELS,
    assert_same_state,
    batch,
    build_distiller,
    classifier,
    distiller_cfg,
    logits,
    review,
    runner_cfg,
    state_of,
    total,
    train,
)
from tests.numbers import assert_close64


@HOOKS.register_module(force=True)
class Watch(Hook):
    """Note the weights at the start, the batches, and the parameters without a gradient."""

    start: dict
    batches: list
    idle: list
    losses: list

    def before_train(self, runner: Runner) -> None:
        kind = type(self)
        kind.start, kind.batches, kind.idle, kind.losses = state_of(runner.model), [], [], []
        self.names, self.reached = set(), set()
        for name, parameter in runner.model.named_parameters():
            self.names.add(name)
            parameter.register_post_accumulate_grad_hook(
                lambda _, name=name: self.reached.add(name)
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        self.batches.append(copy.deepcopy(data_batch))
        self.reached.clear()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None, outputs=None):
        self.idle += sorted(self.names - self.reached)
        self.losses.append(outputs)


def watch(model: dict, work_dir: Path, **kwargs) -> Runner:
    return train(model, work_dir, custom_hooks=[dict(type='Watch')], **NO_VALIDATION, **kwargs)


def trained(work_dir: Path, model: dict, **kwargs) -> tuple[dict, list]:
    watch(model, work_dir, **kwargs)
    start = {name.removeprefix('student.'): v for name, v in Watch.start.items()}
    return start, Watch.batches


def floating(state: dict) -> dict:
    return {name: value for name, value in state.items() if value.is_floating_point()}


def weights_of(start: dict, names: dict) -> dict:
    return {name: start[name] for name in names}


@pytest.mark.parametrize('head_init', [None, dict(type='Normal', layer='Linear', std=0.01)])
def test_student_starts_and_sees_what_the_baseline_does(tmp_path, head_init):
    student = classifier()
    student['head']['init_cfg'] = head_init
    baseline, batches = trained(tmp_path / 'baseline', student)

    cfg = distiller_cfg(student=student, transfers=dict(review=review(), kd=logits()))
    distilled, seen = trained(tmp_path / 'distilled', cfg)

    assert_same_state(weights_of(distilled, baseline), baseline)
    assert len(seen) == len(batches) == 4
    for one, other in zip(seen, batches, strict=True):
        assert torch.equal(one['inputs'], other['inputs'])
        labels = [[int(s.gt_label) for s in data['data_samples']] for data in (one, other)]
        assert labels[0] == labels[1]
    assert not torch.equal(batches[0]['inputs'], batches[1]['inputs'])


@pytest.mark.usefixtures('in_float64')
def test_student_trains_as_alone_where_the_transfers_weigh_nothing(tmp_path):
    student = classifier()
    alone = train(student, tmp_path / 'alone', **NO_VALIDATION).model
    cfg = review(loss=dict(type='HCLLoss', loss_weight=0.0))

    distilled = train(
        distiller_cfg(student=student, transfers=dict(review=cfg)), tmp_path / 'd', **NO_VALIDATION
    )

    ends = [state_of(model) for model in (distilled.model.student, alone)]
    assert ends[0].keys() == ends[1].keys()
    assert_close64(*map(floating, ends))


def test_connectors_are_drawn_apart_from_the_student():
    starts = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        distiller = build_distiller()
        distiller.init_weights()
        starts.append((state_of(distiller.student), state_of(distiller.transfers)))

    (student, connectors), (other_student, other_connectors) = starts
    assert not torch.equal(student['head.fc.weight'], other_student['head.fc.weight'])
    assert_same_state(connectors, other_connectors)


def test_building_and_initialising_draw_what_the_student_alone_draws():
    drawn = dict(type='ReviewConnector', init_cfg=dict(type='Normal', layer='Conv2d', std=0.1))
    transfers = dict(review=review(connector=drawn))
    after = []
    for cfg in (classifier(), distiller_cfg(transfers=transfers)):
        torch.manual_seed(3)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            MODELS.build(cfg).init_weights()
        after.append(torch.rand(4))

    assert torch.equal(*after)


@pytest.mark.parametrize('warmup_epochs', [0, 1, 9])
def test_every_parameter_has_a_gradient_in_every_step(tmp_path, warmup_epochs):
    watch(
        distiller_cfg(transfers=dict(review=review(warmup_epochs=warmup_epochs), kd=logits())),
        tmp_path,
    )

    assert len(Watch.losses) == 4
    assert not Watch.idle
    assert (Watch.losses[0]['loss_review'] == 0) == (warmup_epochs > 0)
    names = {'loss', 'loss_cls', 'loss_review', 'loss_kd'}
    assert all(set(losses) == names for losses in Watch.losses)


def test_optimizer_has_the_student_and_the_connectors_alone(tmp_path):
    runner = train(distiller_cfg(), tmp_path, **NO_VALIDATION)

    groups = runner.optim_wrapper.optimizer.param_groups
    ids = {id(p) for group in groups for p in group['params']}
    model = runner.model
    own = [*model.student.parameters(), *model.transfers.parameters()]
    assert ids == {id(p) for p in own}


def test_data_preprocessor_of_the_top_level(tmp_path):
    student = classifier()
    del student['data_preprocessor']
    model = distiller_cfg(student=student)

    runner = Runner.from_cfg(runner_cfg(model, tmp_path, data_preprocessor=dict(PIXELS)))

    preprocessor = runner.model.data_preprocessor
    assert preprocessor is runner.model.student.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx(PIXELS['mean'])


def test_trains_in_mixed_precision(tmp_path):
    wrapper = dict(type='reviewkd_mm.AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.01))

    watch(distiller_cfg(), tmp_path, optim_wrapper=wrapper)

    assert not Watch.idle
    assert all(losses['loss'].isfinite() for losses in Watch.losses)


def test_ema_averages_student_and_connectors_alone(tmp_path):
    hooks = [dict(type='EMAHook', momentum=0.5), dict(type='Watch')]
    runner = train(distiller_cfg(), tmp_path, custom_hooks=hooks)

    ema = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model

    prefixes = {name.split('.')[1] for name in ema.state_dict() if name != 'steps'}
    assert prefixes == {'student', 'transfers'}
    assert ema.module.teacher is runner.model.teacher
    averaged = ema.module.student.head.fc.weight
    assert not torch.equal(averaged, runner.model.student.head.fc.weight)
    assert not torch.equal(averaged, Watch.start['student.head.fc.weight'])


@pytest.mark.usefixtures('in_float64')
def test_a_copy_runs_and_leaves_the_originals_recorders_alone():
    distiller = build_distiller(transfers=dict(review=review(), kd=logits()))
    first = distiller.loss(*batch())
    ema = ExponentialMovingAverage(distiller, momentum=0.5)

    copied = ema(*batch(), mode='loss')

    for name in ('loss_cls', 'loss_review', 'loss_kd'):
        assert_close64(copied[name], first[name])
    with distiller.student_recorders['review'].recording(distiller.student):
        ema.module.student.extract_feat(batch()[0])
    assert not distiller.student_recorders['review'].recorded
    again = distiller.loss(*batch(seed=1))
    assert not torch.equal(again['loss_review'], copied['loss_review'])
    total(again).backward()


def test_hooks_are_not_copied_into_the_copies_of_copies():
    distiller = build_distiller()
    distiller.loss(*batch())

    third = copy.deepcopy(copy.deepcopy(distiller))
    third.loss(*batch())

    total(third.loss(*batch())).backward()
    assert all(p.grad is None for p in distiller.parameters())


def test_predictions_do_not_need_a_teacher_in_validation(tmp_path):
    runner = Runner.from_cfg(runner_cfg(distiller_cfg(), tmp_path))
    runner.model.teacher.forward = runner.model.teacher.extract_feat = None

    assert 'accuracy/top1' in runner.val()
