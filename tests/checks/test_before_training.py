"""What is wrong with a training's config whatever its classes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from reviewkd_mm.checks.before_training import check_before_training
from tests.models.distillers.helpers import classifier, runner_cfg


def make(folder: Path, **changes: Any) -> Config:
    cfg = runner_cfg(classifier(), folder, default_scope='mmpretrain')
    cfg.merge_from_dict(changes)
    return cfg


def test_a_good_config_passes(tmp_path):
    check_before_training(make(tmp_path))
    check_before_training(make(tmp_path, strategy='DDPStrategy'))  # Which the Runner refuses.


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('model', 3, r"model=3: expected a dict with the key 'type'"),
        ('optim_wrapper', 'SGD', r"optim_wrapper='SGD': expected a dict"),
        (
            'optim_wrapper',
            dict(_delete_=True, lr=1),
            r"optim_wrapper: the key 'optimizer' is missing, got \['lr'\]",
        ),
        ('optim_wrapper.optimizer.type', 'Sgd', r"type='Sgd': there is no such .*'SGD'"),
        ('optim_wrapper.optimizer.lr', -0.1, r"optimizer: .*'lr': -0\.1.*\(Invalid learning rate"),
        ('train_cfg.max_epochs', 0, r'train_cfg\.max_epochs=0: expected a number of at least 1'),
        ('train_dataloader.batch_size', 0, r'train_dataloader\.batch_size=0: expected'),
        ('load_from', '', r"load_from='': expected the path or URL"),
        ('load_from', '/nowhere/a.pth', r"load_from='/nowhere/a\.pth': there is no such file"),
    ],
)
def test_the_key_and_the_value_are_named(tmp_path, key, value, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_before_training(make(tmp_path, **{key: value}))


def test_a_setting_that_no_optimizer_has_is_left_to_the_build(tmp_path):
    check_before_training(make(tmp_path, **{'optim_wrapper.optimizer.momentm': 0.9}))


def test_an_optimizer_of_several_processes_is_left_to_the_build(tmp_path):
    changes = dict(type='ZeroRedundancyOptimizer', optimizer_type='SGD', lr=-1)
    check_before_training(make(tmp_path, **{'optim_wrapper.optimizer': changes}))


def test_a_strategy_may_bring_its_own_optimizer_and_folders_of_checkpoints(tmp_path):
    changes = {'optim_wrapper.optimizer.type': 'DeepSpeedCPUAdam', 'load_from': str(tmp_path)}
    strategy = dict(type='DeepSpeedStrategy')

    check_before_training(make(tmp_path, **changes, strategy=strategy, resume=True))
    check_before_training(make(tmp_path, load_from=str(tmp_path), strategy=strategy))

    with pytest.raises(FileNotFoundError, match='is a folder'):
        check_before_training(make(tmp_path, load_from=str(tmp_path), resume=True))
