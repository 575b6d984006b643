"""Every CIFAR-100 config trains two steps and validates through the Runner."""

from __future__ import annotations

import math

import pytest
from mmengine.runner import Runner

from reviewkd_mm.config import is_distiller
from tests.configs.reading import FILES, name_of
from tests.configs.running import STEPS, brief

CONFIGS = [file for file in FILES if 'cifar100' in file.stem]


@pytest.fixture(autouse=True)
def no_survey_of_the_machine(monkeypatch):
    """The Runner asks compilers for their versions, which takes longer than the training."""
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


@pytest.mark.parametrize('file', CONFIGS, ids=name_of)
def test_a_config_trains_and_validates(file, tmp_path):
    cfg = brief(file, tmp_path / 'data', tmp_path / 'run')

    runner = Runner.from_cfg(cfg)
    runner.train()

    assert runner.iter == STEPS
    scalars = runner.message_hub.log_scalars
    losses = {key for key in scalars if key.startswith('train/loss')}
    values = [value for key in losses for value in scalars[key].data[0]]
    assert all(math.isfinite(value) for value in values)
    assert any(key.startswith('val/') for key in scalars)
    if is_distiller(cfg.model):
        assert {f'train/loss_{name}' for name in cfg.model.transfers} <= losses
        assert (tmp_path / 'run' / 'student_last.pth').is_file()
