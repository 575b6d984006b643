"""The warm-up factor inside and outside of MMEngine's training loops."""

from __future__ import annotations

import pytest
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS

from reviewkd_mm.models.distillers.warmup import warmup_factor
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    batch,
    build_distiller,
    distiller_cfg,
    review,
    train,
)

BY_ITER = dict(
    train_cfg=dict(type='IterBasedTrainLoop', max_iters=6, val_interval=6),
    train_dataloader=dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='InfiniteSampler'),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='reviewkd_mm.TinyImages'),
    ),
)
EPOCH_INFO = dict(type='reviewkd_mm.EpochInfoHook')


@HOOKS.register_module(force=True)
class RecordFactors(Hook):
    """Note the warm-up factor and the loss of each iteration."""

    seen: list[tuple[float, float]]

    def before_train(self, runner) -> None:
        type(self).seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        transfer = runner.model.transfers['review']
        self.seen.append((warmup_factor(transfer.warmup_epochs), outputs['loss_review'].item()))


def factors(work_dir, warmup_epochs: float, hooks=(), **kwargs) -> list[float]:
    cfg = distiller_cfg(transfers=dict(review=review(warmup_epochs=warmup_epochs)))
    hooks = [*hooks, dict(type='RecordFactors')]
    train(cfg, work_dir, custom_hooks=hooks, **NO_VALIDATION, **kwargs)
    return [factor for factor, _ in RecordFactors.seen]


@pytest.fixture
def hub() -> MessageHub:
    return MessageHub.get_instance('warm-up')


@pytest.mark.parametrize(
    ('epoch', 'expected'), [(0, 0.0), (1, 0.25), (3, 0.75), (4, 1.0), (9, 1.0)]
)
def test_factor_rises_with_the_epoch(hub, epoch, expected):
    hub.update_info_dict(dict(loop_stage='train', epoch=epoch, max_epochs=10))

    assert warmup_factor(4) == expected


@pytest.mark.parametrize('stage', ['val', 'test', None])
def test_there_is_no_warmup_outside_of_a_training(hub, stage):
    hub.update_info_dict(dict(loop_stage=stage, epoch=0, max_epochs=10))

    assert warmup_factor(4) == 1.0


def test_no_warmup_asks_nobody(hub):
    hub.update_info_dict(dict(loop_stage='train', epoch=0, max_epochs=1))

    assert warmup_factor(0) == 1.0


def test_losses_outside_of_a_runner_are_whole():
    warm, plain = (
        build_distiller(transfers=dict(review=review(warmup_epochs=epochs))) for epochs in (5, 0)
    )
    warm.load_state_dict(plain.state_dict())

    assert warm.loss(*batch())['loss_review'] == plain.loss(*batch())['loss_review']


@pytest.mark.parametrize('hooks', [[], [EPOCH_INFO]])
def test_epoch_based_training(tmp_path, hooks):
    cfg = dict(by_epoch=True, max_epochs=3)

    assert factors(tmp_path, 2, hooks, train_cfg=cfg) == [0, 0, 0.5, 0.5, 1, 1]
    assert [loss > 0 for _, loss in RecordFactors.seen] == [False, False, *[True] * 4]


@pytest.mark.parametrize(
    ('warmup_epochs', 'expected'), [(0.5, [0, 1, 1, 1, 1, 1]), (1.5, [0, 1 / 3, 2 / 3, 1, 1, 1])]
)
@pytest.mark.parametrize('hooks', [[], [EPOCH_INFO]])
def test_a_fraction_of_an_epoch_counts_iterations(tmp_path, warmup_epochs, expected, hooks):
    cfg = dict(by_epoch=True, max_epochs=3)

    found = factors(tmp_path, warmup_epochs, hooks, train_cfg=cfg)

    assert found == pytest.approx(expected)


def test_a_fraction_in_an_iteration_based_training(tmp_path):
    expected = [0, 1 / 3, 2 / 3, 1, 1, 1]

    assert factors(tmp_path, 1.5, [EPOCH_INFO], **BY_ITER) == pytest.approx(expected)


def test_training_goes_on_warming_up_after_a_validation(tmp_path):
    cfg = distiller_cfg(transfers=dict(review=review(warmup_epochs=4)))

    train(cfg, tmp_path, custom_hooks=[dict(type='RecordFactors')])

    assert [factor for factor, _ in RecordFactors.seen] == [0, 0, 0.25, 0.25]


def test_iteration_based_training_with_the_hook(tmp_path):
    assert factors(tmp_path, 2, [EPOCH_INFO], **BY_ITER) == [0, 0, 0.5, 0.5, 1, 1]


def test_iteration_based_training_without_the_hook_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match=r'warmup_epochs=2.*EpochInfoHook'):
        factors(tmp_path, 2, **BY_ITER)


def test_iteration_based_training_without_a_warmup_needs_no_hook(tmp_path):
    assert factors(tmp_path, 0, **BY_ITER) == [1.0] * 6


def test_a_training_of_one_epoch_cannot_warm_up(tmp_path):
    with pytest.raises(RuntimeError, match=r'warmup_epochs=1.*one epoch'):
        factors(tmp_path, 1, train_cfg=dict(by_epoch=True, max_epochs=1))


def test_one_epoch_of_a_longer_schedule_stays_at_its_start(tmp_path):
    cfg = dict(by_epoch=True, max_epochs=1)

    assert factors(tmp_path, 20, [EPOCH_INFO], train_cfg=cfg) == [0, 0]
