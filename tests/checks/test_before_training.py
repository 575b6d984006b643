"""What is wrong with a training's config whatever its classes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from reviewkd_mm.checks.before_training import check_before_training, name_lost_data
from reviewkd_mm.errors import ConfigError
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
        ('optim_wrapper.optimizer.momentm', 0, r"SGD has no setting 'momentm'=0.*'momentum'"),
        ('train_cfg', dict(_delete_=True, by_epoch=True), r'train_cfg: max_epochs is missing'),
        ('train_cfg.max_epochs', 0, r'train_cfg\.max_epochs=0: expected a number of at least 1'),
        ('train_dataloader.batch_size', 0, r'train_dataloader\.batch_size=0: expected'),
        ('load_from', '', r"load_from='': expected the path or URL"),
        ('load_from', '/nowhere/a.pth', r"load_from='/nowhere/a\.pth': there is no such file"),
    ],
)
def test_the_key_and_the_value_are_named(tmp_path, key, value, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_before_training(make(tmp_path, **{key: value}))


def test_what_is_no_wrong_number_of_an_optimizer_is_left_to_the_build(tmp_path):
    check_before_training(make(tmp_path, **{'optim_wrapper.optimizer.lr': 'fast'}))


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


def test_the_weights_with_which_a_student_starts_must_be_there(tmp_path):
    weights = dict(type='Pretrained', checkpoint='/nowhere/a.pth')
    message = r"^model\.backbone\.init_cfg\.checkpoint='/nowhere/a\.pth': there is no such file"
    with pytest.raises(FileNotFoundError, match=message):
        check_before_training(make(tmp_path, **{'model.backbone.init_cfg': weights}))


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr('reviewkd_mm.checks.missing.find_spec', lambda name: None)
    with pytest.raises(ConfigError, match=r"the package 'mmpretrain', which default_scope=.* pip"):
        check_before_training(make(tmp_path))


def test_data_that_is_not_found_or_is_empty_is_named(tmp_path):
    data = dict(type='CustomDataset', data_root=str(tmp_path))
    cfg = make(tmp_path, train_dataloader=dict(dataset=data))
    (tmp_path / 'empty.png').touch()
    (tmp_path / 'good.png').write_text('pixels')

    message = r"'\S+/empty\.png' is empty \(train_dataloader\.dataset\.data_root\)\. Put"
    with pytest.raises(FileNotFoundError, match=message), name_lost_data(cfg):
        cv2.imdecode(np.empty(0, np.uint8), 0)

    cfg.train_dataloader.dataset.data_root = '/nowhere'
    message = r"there is no '/nowhere' \(train_dataloader\.dataset\.data_root\)"
    with pytest.raises(FileNotFoundError, match=message), name_lost_data(cfg):
        (tmp_path / 'lost.png').read_bytes()


def test_another_error_of_a_training_is_what_it_was(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'^\[Errno 2\]'), name_lost_data(make(tmp_path)):
        (tmp_path / 'lost.png').read_bytes()
    with pytest.raises(cv2.error), name_lost_data(make(tmp_path)):
        cv2.imdecode(np.empty(0, np.uint8), 0)
    with pytest.raises(IndexError), name_lost_data(make(tmp_path)):
        [][0]
