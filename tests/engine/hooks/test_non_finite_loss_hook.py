"""A loss that is not finite stops the training before it ruins the weights, or is skipped."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from torch import Tensor, nn

from reviewkd_mm.engine.hooks import NonFiniteLossHook
from reviewkd_mm.registry import MODELS
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    assert_same_state,
    classifier,
    distiller_cfg,
    logits,
    review,
    runner_cfg,
    state_of,
)

STAGE = 'backbone.layer2'
HOOK = 'reviewkd_mm.NonFiniteLossHook'
AMP = dict(
    type='reviewkd_mm.AmpOptimWrapper',
    dtype='float16',
    loss_scale=dict(init_scale=8.0),
    optimizer=dict(type='SGD', lr=0.01),
)


@MODELS.register_module(force=True)
class Overflow(nn.Module):
    """A loss that is infinite in chosen calls, the one at build counted as 0."""

    def __init__(self, calls: tuple[int, ...]) -> None:
        super().__init__()
        self.calls, self.count = calls, -1

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        self.count += 1
        factor = math.inf if self.count in self.calls else 1.0
        return factor * (1 + student[0].square().mean())


def overflowing(*calls: int) -> dict:
    return dict(student='neck', teacher='neck', loss=dict(type='Overflow', calls=calls))


def make_runner(folder: Path, iterations: int, hook: dict | None = None, **kwargs: Any) -> Runner:
    """Build a training of some iterations, with the hook unless it is None."""
    model = kwargs.pop('model', None) or distiller_cfg(**kwargs.pop('distiller', {}))
    hooks = [] if hook is None else [dict(type=HOOK, **hook)]
    loop = dict(by_epoch=False, max_iters=iterations)
    options = dict(NO_VALIDATION, train_cfg=loop, custom_hooks=hooks, **kwargs)
    options['log_processor'] = dict(by_epoch=False)
    options['default_hooks'] = dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None)
    return Runner.from_cfg(runner_cfg(model, folder, **options))


def poison(module: nn.Module, *iterations: int, value: float = math.nan) -> None:
    """Let one value of a module's output be NaN in some forwards, counted from 1."""
    count = 0

    def spoil(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        nonlocal count
        count += 1
        if count not in iterations:
            return None
        output = output.clone()
        output.view(-1)[5] = value
        return output

    module.register_forward_hook(spoil)


def error_of(runner: Runner) -> str:
    with pytest.raises(RuntimeError) as caught:
        runner.train()
    return str(caught.value)


def weights_of(runner: Runner) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in runner.model.named_parameters()}


def momenta_of(runner: Runner) -> dict[str, Tensor]:
    state = runner.optim_wrapper.optimizer.state
    names = runner.model.named_parameters()
    return {name: state[p]['momentum_buffer'].clone() for name, p in names if p in state}


def logged(runner: Runner) -> list[dict]:
    file = next(Path(runner.work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope='module')
def one_step(tmp_path_factory) -> Runner:
    """A training that ended after one step, without the hook."""
    runner = make_runner(tmp_path_factory.mktemp('one'), 1)
    runner.train()
    return runner


def test_the_message_names_transfer_tap_iteration_and_features(tmp_path, one_step):
    runner = make_runner(tmp_path, 3, {}, distiller=dict(transfers=dict(review=review())))
    poison(runner.model.student.get_submodule(STAGE)[-1], 2)

    lines = error_of(runner).splitlines()

    assert lines[0].startswith(
        f"transfers.review: the loss is nan in iteration 2: the student's feature at the tap "
        f"'{STAGE}' is not finite; "
    )
    assert len(lines) == 1 + 2 * 4, 'one for each feature'
    student, teacher = lines[3:5]
    number = r'-?\d\S*'
    values = rf'min {number}, max {number}, mean {number}'
    features = ((student, f'student {STAGE!r}', 8, 1), (teacher, 'teacher', 16, 0))
    for line, name, channels, bad in features:
        assert line.strip().startswith(name)
        total = 4 * channels * 16 * 16
        assert f'(4, {channels}, 16, 16) float32: ' in line
        assert line.endswith(f', {bad} of {total} not finite')
        assert re.search(values, line)
    assert_same_state(weights_of(runner), weights_of(one_step))


def test_a_teacher_that_is_not_finite_is_named(tmp_path):
    runner = make_runner(tmp_path, 1, {})
    poison(runner.model.teacher.backbone.layer1[-1].bn2, 1, value=-math.inf)

    message = error_of(runner)

    assert (
        "the teacher's feature at the tap 'backbone.layer1.-1.relu (input)' is not finite"
        in message
    )
    assert 'teacher_ckpt' in message


def test_a_loss_of_finite_features_is_told_apart(tmp_path):
    transfers = dict(review=review(), kd=logits(), big=overflowing(1))
    runner = make_runner(tmp_path, 1, {}, distiller=dict(transfers=transfers))

    message = error_of(runner)

    assert message.startswith('transfers.big: the loss is inf in iteration 1: all features are')
    assert 'review' not in message
    assert 'kd' not in message


def test_a_broken_connector_is_named(tmp_path):
    runner = make_runner(tmp_path, 1, {})
    init_weights = runner.model.init_weights

    def broken() -> None:
        init_weights()
        runner.model.transfers.review.connector.abfs[1].conv2.conv.weight.data[0, 0] = math.nan

    runner.model.init_weights = broken

    assert 'connector.abfs.1.conv2.conv.weight is not' in error_of(runner)


def test_a_skipped_step_leaves_no_trace(tmp_path, one_step):
    runner = make_runner(tmp_path, 2, dict(skip=True))
    poison(runner.model.student.get_submodule(STAGE)[-1], 2)
    warnings = record_warnings(runner)

    runner.train()

    assert_same_state(state_of(runner.model), state_of(one_step.model))
    assert_same_state(momenta_of(runner), momenta_of(one_step))
    assert len(warnings) == 1
    assert warnings[0].startswith('The step is skipped, 1 by now. transfers.review: the loss is')
    assert [line['skipped_steps'] for line in logged(runner)] == [0, 1]


def record_warnings(runner: Runner) -> list[str]:
    found: list[str] = []
    runner.logger.warning = found.append
    return found


def test_the_hook_changes_nothing_where_all_is_finite(tmp_path, one_step):
    runner = make_runner(tmp_path, 1, dict(skip=True))

    runner.train()

    assert_same_state(state_of(runner.model), state_of(one_step.model))


def test_training_goes_on_after_a_skipped_step(tmp_path):
    hook = dict(skip=True, max_in_a_row=2)
    runner = make_runner(tmp_path, 6, hook, distiller=dict(transfers=dict(a=overflowing(2, 3, 5))))
    steps = count_changes(runner)

    runner.train()

    assert steps == [True, False, False, True, False, True]
    assert logged(runner)[-1]['skipped_steps'] == 3


def count_changes(runner: Runner) -> list[bool]:
    """Tell for each step whether it changed the weights."""
    changes: list[bool] = []
    step = runner.model.train_step

    def watched(*args: Any, **kwargs: Any) -> Any:
        before = weights_of(runner)
        outputs = step(*args, **kwargs)
        after = weights_of(runner)
        assert all(torch.isfinite(weight).all() for weight in after.values())
        changes.append(any(not torch.equal(after[name], before[name]) for name in before))
        return outputs

    runner.model.train_step = watched
    return changes


def test_too_many_skipped_in_a_row_stop_the_training(tmp_path):
    hook = dict(skip=True, max_in_a_row=2)
    transfers = dict(a=overflowing(1, 2, 3))
    runner = make_runner(tmp_path, 9, hook, distiller=dict(transfers=transfers))

    message = error_of(runner)

    assert message.startswith('NonFiniteLossHook: more than max_in_a_row=2 steps in a row')
    assert 'transfers.a: the loss is inf in iteration 3' in message


@pytest.mark.parametrize('skip', [False, True])
def test_under_a_gradient_scaler(tmp_path, skip):
    distiller = dict(transfers=dict(a=overflowing(2)))
    runner = make_runner(tmp_path, 3, dict(skip=skip), distiller=distiller, optim_wrapper=AMP)
    steps = count_changes(runner)

    if skip:
        runner.train()
        assert steps == [True, False, True]
        assert logged(runner)[-1]['skipped_steps'] == 1
        return
    assert 'transfers.a: the loss is inf in iteration 2' in error_of(runner)
    assert steps == [True, False]


def test_an_overflow_of_the_gradient_alone_is_no_error(tmp_path):
    wrapper = dict(AMP, loss_scale=dict(init_scale=2.0**100))
    runner = make_runner(tmp_path, 2, {}, optim_wrapper=wrapper)
    steps = count_changes(runner)

    runner.train()

    assert steps == [False, False]


def test_a_bad_batch_is_dropped_from_accumulated_gradients(tmp_path):
    wrapper = dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2)
    distiller = dict(transfers=dict(a=overflowing(1)))
    runner = make_runner(tmp_path, 2, dict(skip=True), distiller=distiller, optim_wrapper=wrapper)
    steps = count_changes(runner)

    runner.train()

    assert steps == [False, True]


def test_a_training_without_a_distiller_is_left_alone(tmp_path):
    runner = make_runner(tmp_path, 1, dict(skip=True), model=classifier())

    runner.train()

    assert 'skipped_steps' not in logged(runner)[-1]


def test_nothing_is_watched_after_the_training(tmp_path):
    runner = make_runner(tmp_path, 1, {})
    watched = [runner.model, *runner.model.transfers.values()]

    runner.train()

    assert not any(module._forward_hooks for module in watched)
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize('value', [0, -1, 1.5, None])
def test_a_wrong_limit_is_refused(value):
    with pytest.raises(ValueError, match=r'max_in_a_row=.*expected a number of steps'):
        NonFiniteLossHook(max_in_a_row=value)


class Sharded:
    """An optimizer as DeepSpeed has it: no torch optimizer, but one that steps is within."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups


def test_the_optimizer_within_deepspeeds_is_watched(tmp_path):
    runner = make_runner(tmp_path, 1)
    runner.train()
    wrapper, hook = runner.optim_wrapper, NonFiniteLossHook(skip=True)
    inner = wrapper.optimizer
    wrapper.optimizer = Sharded(inner)
    hook.before_train(runner)
    before = weights_of(runner)
    for parameter in runner.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    hook._bad = ['review']

    inner.step()

    assert_same_state(weights_of(runner), before)
