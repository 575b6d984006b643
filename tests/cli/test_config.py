"""Tests of reading configs: missing files, and options that can have no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from reviewkd_mm.cli import load_config

CONFIG = """
max_epochs = 12
pipeline = [dict(type='PackInputs')]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=pipeline))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=None)
"""


@pytest.fixture
def path(tmp_path) -> str:
    file = tmp_path / 'resnet20_tiny.py'
    file.write_text(CONFIG)
    return str(file)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('train_cfg.max_epochs', 3),
        ('train_cfg.val_interval', 2),
        ('train_dataloader.dataset.pipeline.0.type', 'Resize'),
        ('train_dataloader.dataset.indices', 20000),
        ('optim_wrapper.optimizer.lr', 0.5),
        ('work_dir', 'runs'),
        ('randomness.seed', 1),
        ('find_unused_parameters', True),
    ],
)
def test_options_that_have_an_effect_are_merged_quietly(path, capsys, key, value):
    cfg = load_config(path, {key: value})

    node = cfg
    for part in key.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == value
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('key', 'said'),
    [
        ('train_cfg.max_epoch', 'did you mean train_cfg.max_epochs?'),
        ('train_cgf.max_epochs', 'did you mean train_cfg'),
        ('max_epochs', 'did you mean train_cfg.max_epochs?'),
        ('pipeline.0.type', 'did you mean train_dataloader.dataset.pipeline.0.type?'),
        ('optim_wrapper.optimiser.lr', 'did you mean optim_wrapper.optimizer?'),
        (
            'optim_wrapper.paramwise_cfg.norm_decay_mult',
            "optim_wrapper has no 'paramwise_cfg' yet",
        ),
    ],
)
def test_options_that_look_wrong_get_one_line(path, capsys, key, said):
    load_config(path, {key: 3})

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f'warning: --cfg-options {key}: ')
    assert said in lines[0]


def test_a_key_of_what_is_no_dict_is_refused(path):
    with pytest.raises(ValueError, match=r'optim_wrapper\.clip_grad is None: expected a dict'):
        load_config(path, {'optim_wrapper.clip_grad.max_norm': 3})


def test_only_the_first_process_warns(path, capsys, monkeypatch):
    monkeypatch.setenv('RANK', '1')

    load_config(path, {'max_epochs': 3})

    assert capsys.readouterr().err == ''


def test_no_options(path, capsys):
    assert load_config(path).max_epochs == 12
    assert capsys.readouterr().err == ''


def test_a_missing_file_names_the_nearest_beside_it(path):
    with pytest.raises(FileNotFoundError, match=r'the nearest are .*resnet20_tiny\.py') as caught:
        load_config(path.replace('tiny', 'tinny'))
    assert 'resnet20_tinny.py' in str(caught.value)


def test_a_missing_file_names_the_nearest_of_the_project(tmp_path, monkeypatch):
    configs = tmp_path / 'configs'
    (configs / 'baselines').mkdir(parents=True)
    for folder in ('_base_', 'kd'):
        (configs / folder).mkdir()
    (configs / 'baselines' / 'resnet20_cifar100.py').touch()
    (configs / 'kd' / 'resnet20_cifar100.py').touch()
    (configs / '_base_' / 'resnet20_cifar10.py').touch()
    monkeypatch.setattr('reviewkd_mm.cli.config.CONFIG_FOLDERS', (configs,))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(FileNotFoundError) as caught:
        load_config('config/resnet20_cifar10.py')

    files = [Path('configs', folder, 'resnet20_cifar100.py') for folder in ('baselines', 'kd')]
    assert str(caught.value).endswith(f'the nearest are {files[0]}, {files[1]}')


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match='is a folder'):
        load_config(str(tmp_path))
