"""Tests of tools/train.py and the scripts that start it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from tests.tools.in_process import run_tool

TOOLS = Path(__file__).resolve().parents[2] / 'tools'

CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=10, mean=[128.0] * 3, std=[64.0] * 3),
    backbone=dict(type='reviewkd_mm.CIFARResNet', depth=8, base_channels=(4, 4, 4, 8)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=10, in_channels=8, loss=dict(type='CrossEntropyLoss')
    ),
)
pipeline = [dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='reviewkd_mm.Digits', image_size=16, num_train=5, pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='reviewkd_mm.Digits', split='test', image_size=16, indices=20, pipeline=pipeline
    ),
)
val_evaluator = dict(type='Accuracy')
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
auto_scale_lr = dict(base_batch_size=64)
"""


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    """Write a small config, and make its folder the current one."""
    (tmp_path / 'tiny.py').write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    # Runs of one second share a logger, which writes to where the first one's output went.
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    return 'tiny.py'


def start(*command: str | Path, **env: str) -> subprocess.CompletedProcess:
    """Run a command as a user does: in the current folder, the package not on the path."""
    settings = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    settings.update(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PATH=path)
    return subprocess.run(
        [str(part) for part in command],
        env={**settings, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def dumped_config(work_dir: str) -> Config:
    """Return the config that the Runner wrote into its work dir."""
    return Config.fromfile(Path(work_dir, 'tiny.py'))


def message_of(caught: pytest.ExceptionInfo) -> str:
    return str(caught.value.code)


def load(path: str) -> dict:
    return torch.load(path, map_location='cpu', weights_only=False)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def write_program(folder: Path, name: str) -> None:
    """Write a program that prints its arguments, one a line."""
    program = folder / name
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)


def test_resume_without_and_with_a_path(config, capsys):
    run_tool('train.py', config, '--work-dir', 'first', '--resume')
    printed = capsys.readouterr().out
    assert 'resumed epoch' not in printed
    assert re.search(r'Epoch\(train\) .* eta: .* loss: ', printed)
    assert re.search(r'Epoch\(val\) .* accuracy/top1: ', printed)

    run_tool(
        'train.py',
        config,
        '--work-dir',
        'first',
        '--resume',
        '--cfg-options',
        'train_cfg.max_epochs=2',
    )
    assert 'resumed epoch: 1, iter: 4' in capsys.readouterr().out

    options = ['--resume', 'first/epoch_2.pth', '--cfg-options', 'train_cfg.max_epochs=3']
    run_tool('train.py', config, '--work-dir', 'second', *options)
    assert 'resumed epoch: 2, iter: 8' in capsys.readouterr().out
    checkpoint = load('second/epoch_3.pth')
    assert checkpoint['meta']['epoch'] == 3


def test_the_options_win_over_cfg_options_and_the_file(config):
    settings = ['work_dir=theirs', 'val_cfg.fp16=False', 'train_dataloader.pin_memory=True']
    run_tool(
        'train.py',
        config,
        '--work-dir',
        'mine',
        '--no-validate',
        '--no-pin-memory',
        '--cfg-options',
        *settings,
    )

    assert not Path('theirs').exists()
    cfg = dumped_config('mine')
    assert cfg.val_cfg is None
    assert cfg.train_dataloader.pin_memory is False


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['tyni.py'], r"config='tyni\.py': no such file; the nearest are tiny\.py"),
        (
            ['tiny.py', '--auto-scale-lr', '--cfg-options', 'auto_scale_lr.base_batch_size=0'],
            r'auto_scale_lr\.base_batch_size=0: expected the batch size',
        ),
        (
            ['tiny.py', '--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper'],
            r"optim_wrapper\.type='ApexOptimWrapper': expected OptimWrapper or AmpOptimWrapper",
        ),
        (['tiny.py', '--check-teacher', '1'], r'--check-teacher: expected .* of a distiller'),
        (['tiny.py', '--resume', 'no.pth'], r"--resume='no\.pth': expected a checkpoint"),
        (
            ['tiny.py', '--cfg-options', 'train_dataloader.dataset.num_train=0'],
            r'Digits: num_train=0: expected None or at least 1',
        ),
    ],
    ids=['config', 'batch size', 'wrapper', 'teacher', 'checkpoint', 'argument'],
)
def test_what_cannot_work_ends_in_one_message_before_the_training(config, args, message, capsys):
    with pytest.raises(SystemExit) as caught:
        run_tool('train.py', *args)

    assert re.match(f'error: .*{message}', message_of(caught))
    assert 'Epoch(train)' not in capsys.readouterr().out


def test_missing_data_ends_in_one_message_before_the_training(config, capsys):
    digits = "dict(type='reviewkd_mm.Digits', image_size=16, num_train=5, pipeline=pipeline)"
    assert digits in CONFIG
    cifar = "dict(type='reviewkd_mm.CIFAR100', data_root='nowhere')"
    content = CONFIG.replace(digits, cifar).replace('num_classes=10', 'num_classes=100')
    Path(config).write_text(content)

    with pytest.raises(SystemExit) as caught:
        run_tool('train.py', config)

    assert message_of(caught).startswith(
        "error: CIFAR100: data_root='nowhere': expected the folder"
    )
    assert 'Epoch(train)' not in capsys.readouterr().out


def test_a_key_that_the_loop_does_not_know_is_named_with_the_nearest(config):
    with pytest.raises(SystemExit, match=r"'max_epoch'=3; did you mean 'max_epochs'\?"):
        run_tool('train.py', config, '--cfg-options', 'train_cfg.max_epoch=3')


@pytest.fixture
def launched(monkeypatch) -> Iterator[list[str]]:
    """Pass for the only process of a launcher; return the options that it adds."""
    address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()))
    for name, value in dict(RANK='0', WORLD_SIZE='1', **address).items():
        monkeypatch.setenv(name, value)
    yield ['--launcher', 'pytorch']
    torch.distributed.destroy_process_group()


def test_a_launched_process_trains_without_its_wrapper_in_the_checkpoint(
    config, launched, capsys, recwarn
):
    run_tool('train.py', config, *launched, '--amp', '--auto-scale-lr')

    printed = capsys.readouterr().out
    assert "launcher = 'pytorch'" in printed
    assert 'lr: 2.5000e-02' in printed, '0.1 for a batch of 64, scaled to one of 16'
    assert not [warning for warning in recwarn if 'pin_memory' in str(warning.message)]
    cfg = dumped_config('work_dirs/tiny')
    assert cfg.optim_wrapper.type == 'reviewkd_mm.AmpOptimWrapper'
    assert cfg.train_dataloader.collate_fn.type == 'default_collate'
    checkpoint = load('work_dirs/tiny/epoch_1.pth')
    assert not any(key.startswith('module.') for key in checkpoint['state_dict'])


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_the_scripts_say_how_to_use_them(script):
    done = start(TOOLS / script, 'config.py')

    assert done.returncode == 2
    assert done.stderr.startswith('usage: ')


@pytest.mark.parametrize(
    ('script', 'args', 'tool'),
    [
        ('dist_train.sh', ['a b.py', '4'], ['train.py', 'a b.py']),
        ('dist_test.sh', ['a b.py', 'c.pth', '4'], ['test.py', 'a b.py', 'c.pth']),
    ],
)
def test_the_scripts_pass_on_what_they_are_given(tmp_path, script, args, tool):
    write_program(tmp_path, 'python')
    machines = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234')

    done = start(
        TOOLS / script,
        *args,
        '--cfg-options',
        'x="1 2"',
        PATH=f'{tmp_path}:/usr/bin:/bin',
        **machines,
    )

    lines = done.stdout.splitlines()
    assert lines[:2] == ['-m', 'torch.distributed.run']
    assert {
        '--nnodes=2',
        '--node_rank=1',
        '--master_addr=10.0.0.1',
        '--master_port=1234',
        '--nproc_per_node=4',
    } <= set(lines)
    options = ['--launcher', 'pytorch', '--cfg-options', 'x="1 2"']
    assert lines[-len(tool + options) :] == [str(TOOLS / tool[0]), *tool[1:], *options]


def test_the_slurm_script_passes_on_what_it_is_given(tmp_path):
    write_program(tmp_path, 'srun')

    done = start(
        TOOLS / 'slurm_train.sh',
        *['gpu', 'a job', 'c.py', 'runs', '--amp'],
        PATH=f'{tmp_path}:/usr/bin:/bin',
        GPUS='4',
        SRUN_ARGS='--qos=high --time=10',
    )

    lines = done.stdout.splitlines()
    assert lines[:2] == ['--partition=gpu', '--job-name=a job']
    assert {'--gres=gpu:4', '--ntasks=4', '--qos=high', '--time=10'} <= set(lines)
    tool = [str(TOOLS / 'train.py'), 'c.py', '--work-dir', 'runs', '--launcher', 'slurm', '--amp']
    assert lines[-len(tool) :] == tool
