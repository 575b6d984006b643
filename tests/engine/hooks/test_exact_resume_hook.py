"""A training that was stopped and resumed learns the same, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.engine.hooks.resuming import different, options, outcome, run, stop_and_resume
from tests.models.distillers.helpers import NO_VALIDATION, classifier, train


@pytest.fixture(scope='module')
def straight(tmp_path_factory) -> dict[str, Tensor]:
    return outcome(run(tmp_path_factory.mktemp('straight')))


def test_the_training_is_one_in_which_differences_would_show(straight):
    losses, scores = straight['curve.train/loss'], straight['curve.val/confidence']
    assert len(set(losses.tolist())) == len(losses) == 4 * 3
    assert len(scores) == 4
    assert scores.max() > scores[:2].max(), 'the best comes after the stop'


@pytest.mark.parametrize('workers', [0, 2], ids=['no workers', 'persistent workers'])
def test_stopping_between_epochs_changes_nothing(straight, tmp_path, workers):
    resumed = stop_and_resume(tmp_path, 'before_train_epoch', workers)

    assert different(outcome(resumed), straight) == []


def test_stopping_before_a_validation_changes_nothing_with_a_seed_of_nobodys_choice(
    straight, tmp_path, monkeypatch
):
    seeds = iter([11, 222])  # The first is the seed of the straight training.
    monkeypatch.setattr('mmengine.runner.utils.sync_random_seed', lambda: next(seeds))

    resumed = stop_and_resume(tmp_path, 'before_val', randomness=dict(seed=None))

    assert different(outcome(resumed), straight) == []


def test_starting_from_the_weights_of_a_checkpoint_is_no_resume(tmp_path):
    settings = dict(options(), **NO_VALIDATION, custom_hooks=[])
    settings['train_cfg'] = dict(by_epoch=True, max_epochs=1)
    exact = dict(custom_hooks=[dict(type='reviewkd_mm.ExactResumeHook')])
    train(classifier(), tmp_path / 'first', **{**settings, **exact, 'randomness': dict(seed=5)})
    train(classifier(), tmp_path / 'fresh', **{**settings, **exact})
    fresh = torch.rand(4)
    start = dict(load_from=str(tmp_path / 'first' / 'epoch_1.pth'))

    train(classifier(), tmp_path / 'second', **{**settings, **exact, **start})

    assert torch.equal(torch.rand(4), fresh)


def test_stopping_before_the_last_validation_leaves_its_results_in_the_checkpoint(tmp_path):
    two = dict(train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1))
    run(tmp_path / 'straight', **two)
    stop_and_resume(tmp_path / 'stopped', 'before_val', **two)
    straight, stopped = (
        torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)
        for name in ('straight', 'stopped')
    )

    curve = 'val/confidence'
    expected, found = (
        saved['message_hub']['log_scalars'][curve].data[0] for saved in (straight, stopped)
    )
    assert len(expected) == 2
    assert list(found) == list(expected)
    expected, found = (saved['random_state']['by_rank'][0] for saved in (straight, stopped))
    assert torch.equal(found.pop('torch'), expected.pop('torch'))
    assert found == expected
