"""Tests of what the options of a training change in its config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner

from reviewkd_mm import cli
from reviewkd_mm.errors import ConfigError
from tests.models.distillers.helpers import classifier, runner_cfg


def make_config(**settings) -> Config:
    defaults = dict(
        default_scope='mmpretrain',
        train_dataloader=dict(batch_size=2, num_workers=2),
        val_dataloader=dict(batch_size=2, num_workers=0),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    )
    return Config({**defaults, **settings})


@pytest.fixture(params=['cuda', 'cpu'])
def device(request, monkeypatch) -> str:
    monkeypatch.setattr('reviewkd_mm.cli.training_options.get_device', lambda: request.param)
    return request.param


def test_the_work_dir_is_asked_for_or_configured_or_named_after_the_config():
    cfg = make_config(work_dir='configured')

    cli.set_work_dir(cfg, 'configs/a/net.py', 'asked')
    assert cfg.work_dir == 'asked'
    cli.set_work_dir(cfg, 'configs/a/net.py')
    assert cfg.work_dir == 'asked'
    cfg = make_config(work_dir=None)
    cli.set_work_dir(cfg, 'configs/a/net.py')
    assert cfg.work_dir == 'work_dirs/net'


@pytest.mark.parametrize('work_dir', ['file', 'file/run', 'file/a/run'])
def test_a_work_dir_that_can_be_no_folder_is_refused(tmp_path, work_dir):
    (tmp_path / 'file').touch()
    cfg = make_config()

    with pytest.raises(ValueError, match=r"work_dir='.*file.*is no folder.*--work-dir"):
        cli.set_work_dir(cfg, 'net.py', str(tmp_path / work_dir))


def test_a_read_only_work_dir_is_refused(tmp_path, monkeypatch):
    # The superuser may write everywhere; only the file system refuses that.
    monkeypatch.setattr('os.access', lambda path, mode: Path(path) != tmp_path)

    with pytest.raises(ValueError, match=r'is read-only; expected a folder'):
        cli.set_work_dir(make_config(), 'net.py', str(tmp_path / 'a' / 'run'))


def test_mmpretrain_dataloaders_get_the_defaults_of_its_tools(device):
    cfg = make_config(test_dataloader=None)

    cli.set_dataloaders(cfg)

    train, val = cfg.train_dataloader, cfg.val_dataloader
    assert train.collate_fn == val.collate_fn == dict(type='default_collate')
    assert train.pin_memory is (device == 'cuda')
    assert train.persistent_workers is True
    assert 'persistent_workers' not in val, 'there is no worker to persist'
    assert cfg.test_dataloader is None


def test_a_configured_dataloader_stays_as_it_is():
    mine = dict(collate_fn=dict(type='mine'), persistent_workers=False, num_workers=2)
    cfg = make_config(train_dataloader=mine)

    cli.set_dataloaders(cfg)

    assert cfg.train_dataloader.collate_fn.type == 'mine'
    assert cfg.train_dataloader.persistent_workers is False


def test_mmdetection_dataloaders_get_no_defaults(device):
    loader = dict(batch_size=2, num_workers=2, persistent_workers=True, pin_memory=True)
    cfg = make_config(default_scope='mmdet', train_dataloader=loader)

    cli.set_dataloaders(cfg)

    assert cfg.train_dataloader.persistent_workers is True
    assert cfg.train_dataloader.pin_memory is (device == 'cuda')
    assert set(cfg.val_dataloader) == {'batch_size', 'num_workers'}


def test_pinned_memory_and_persistent_workers_can_be_refused(monkeypatch):
    monkeypatch.setattr('reviewkd_mm.cli.training_options.get_device', lambda: 'cuda')
    cfg = make_config()

    cli.set_dataloaders(cfg, pin_memory=False, persistent_workers=False)

    assert cfg.train_dataloader.pin_memory is False
    assert not cfg.train_dataloader.get('persistent_workers', False)


@pytest.mark.parametrize(
    'kind',
    [
        None,
        'OptimWrapper',
        'AmpOptimWrapper',
        'mmengine.OptimWrapper',
        'reviewkd_mm.AmpOptimWrapper',
        OptimWrapper,
        AmpOptimWrapper,
    ],
)
def test_amp_replaces_the_usual_wrappers(kind):
    wrapper = dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1))
    cfg = make_config(optim_wrapper=wrapper if kind is None else dict(type=kind, **wrapper))

    cli.enable_amp(cfg)

    assert cfg.optim_wrapper.type == 'reviewkd_mm.AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    assert cfg.optim_wrapper.clip_grad.max_norm == 1


def test_amp_keeps_a_configured_scale():
    cfg = make_config(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), loss_scale=512.0))

    cli.enable_amp(cfg)

    assert cfg.optim_wrapper.loss_scale == 512.0


@pytest.mark.parametrize('kind', ['AmpOptimWrapper', 'mmengine.AmpOptimWrapper', AmpOptimWrapper])
def test_amp_of_a_config_works_without_an_accelerator(device, kind):
    wrapper = dict(type=kind, optimizer=dict(type='SGD', lr=0.1), loss_scale=512.0)
    cfg = make_config(optim_wrapper=wrapper)

    cli.adapt_optim_wrapper(cfg)

    replaced = 'reviewkd_mm.AmpOptimWrapper' if device == 'cpu' else kind
    assert cfg.optim_wrapper == dict(wrapper, type=replaced)


@pytest.mark.parametrize('kind', [None, 'OptimWrapper', 'reviewkd_mm.AmpOptimWrapper', 'Unknown'])
def test_another_wrapper_stays_as_it_is(kind):
    wrapper = dict(type=kind, optimizer=dict(type='SGD', lr=0.1))
    cfg = make_config(optim_wrapper=wrapper)

    cli.adapt_optim_wrapper(cfg)

    assert cfg.optim_wrapper == wrapper


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(paramwise_cfg=dict(bias_decay_mult=0.0)), 'ValueError: base_wd should not be None'),
        (dict(constructor='NoSuchOne'), 'KeyError: .*NoSuchOne'),
        (dict(optimizer=dict(type='SGD', lr='fast')), "TypeError: .*'str' and 'float'"),
    ],
)
def test_an_optimizer_that_cannot_be_built_is_named(tmp_path, settings, message):
    wrapper = {'optimizer': dict(type='SGD', lr=0.1), **settings}
    runner = Runner.from_cfg(runner_cfg(classifier(), tmp_path, optim_wrapper=wrapper))

    with pytest.raises(ConfigError, match=f'^optim_wrapper: {message}'):
        cli.build_optim_wrapper(runner)


def test_a_runner_trains_with_the_optimizer_that_was_built(tmp_path):
    runner = Runner.from_cfg(runner_cfg(classifier(), tmp_path))

    cli.build_optim_wrapper(runner)
    built = runner.optim_wrapper
    runner.train()

    assert isinstance(built, OptimWrapper)
    assert runner.optim_wrapper is built


def test_amp_refuses_another_wrapper_by_name():
    cfg = make_config(optim_wrapper=dict(type='ApexOptimWrapper', optimizer=dict(type='SGD')))

    with pytest.raises(ValueError, match=r"optim_wrapper\.type='ApexOptimWrapper'"):
        cli.enable_amp(cfg)


def test_amp_refuses_several_optimizers():
    cfg = make_config(optim_wrapper=dict(one=dict(optimizer={}), other=dict(optimizer={})))

    with pytest.raises(ValueError, match=r"optim_wrapper has the keys \['one', 'other'\]"):
        cli.enable_amp(cfg)


def test_the_learning_rate_is_scaled_when_asked_for():
    cfg = make_config(auto_scale_lr=dict(base_batch_size=64))

    cli.enable_auto_scale_lr(cfg)

    assert cfg.auto_scale_lr.enable is True


@pytest.mark.parametrize('settings', [{}, dict(auto_scale_lr=dict(enable=False))])
def test_a_learning_rate_of_an_unknown_batch_size_is_refused(settings):
    with pytest.raises(ValueError, match=r'auto_scale_lr\.base_batch_size=None'):
        cli.enable_auto_scale_lr(make_config(**settings))


def save(folder: Path, *names: str, damaged: Sequence[str] = ()) -> list[str]:
    """Save checkpoints in this order, and cut the end off some."""
    for name in names:
        torch.save(dict(weights=torch.rand(100)), folder / name)
        if name in damaged:
            (folder / name).write_bytes((folder / name).read_bytes()[:-50])
        (folder / 'last_checkpoint').write_text(str(folder / name))
    return [str(folder / name) for name in names]


@pytest.mark.parametrize('asked', [dict(resume='auto'), dict(configured=True)])
def test_resume_from_the_last_checkpoint(tmp_path, asked):
    _, last = save(tmp_path, 'epoch_9.pth', 'epoch_10.pth')
    cfg = make_config(work_dir=str(tmp_path), resume=asked.get('configured', False))

    cli.set_resume(cfg, asked.get('resume'))

    assert cfg.resume is True
    assert cfg.load_from == last


def test_resume_in_a_folder_that_was_moved(tmp_path):
    (tmp_path / 'old').mkdir()
    save(tmp_path / 'old', 'epoch_1.pth')
    (tmp_path / 'old').rename(tmp_path / 'new')
    cfg = make_config(work_dir=str(tmp_path / 'new'))

    cli.set_resume(cfg, 'auto')

    assert cfg.load_from == str(tmp_path / 'new' / 'epoch_1.pth')


def test_a_damaged_last_checkpoint_is_passed_over_with_a_warning(tmp_path):
    names = ('epoch_2.pth', 'best_score_epoch_2.pth', 'epoch_10.pth', 'epoch_11.pth')
    *_, whole, last = save(tmp_path, *names, damaged=['epoch_11.pth'])
    cfg = make_config(work_dir=str(tmp_path))

    with pytest.warns(UserWarning, match=f"'{last}' cannot be read; resuming from '{whole}'"):
        cli.set_resume(cfg, 'auto')

    assert cfg.load_from == whole


def test_resume_knows_the_names_that_were_configured(tmp_path):
    whole, _ = save(tmp_path, 'step-5.pt', 'step-6.pt', damaged=['step-6.pt'])
    hooks = dict(checkpoint=dict(type='CheckpointHook', filename_tmpl='step-{}.pt'))
    cfg = make_config(work_dir=str(tmp_path), default_hooks=hooks)

    with pytest.warns(UserWarning, match='cannot be read'):
        cli.set_resume(cfg, 'auto')

    assert cfg.load_from == whole


def test_without_a_whole_checkpoint_resume_is_refused(tmp_path):
    save(tmp_path, 'epoch_1.pth', damaged=['epoch_1.pth'])
    cfg = make_config(work_dir=str(tmp_path))

    with pytest.raises(ValueError, match=r"work_dir='.*epoch_1\.pth' cannot be read"):
        cli.set_resume(cfg, 'auto')


def test_a_first_start_with_resume_keeps_load_from(tmp_path):
    cfg = make_config(work_dir=str(tmp_path), load_from='pretrained.pth')

    cli.set_resume(cfg, 'auto')

    assert cfg.load_from == 'pretrained.pth'
    assert not cfg.get('resume')


def test_resume_from_a_path(tmp_path):
    (checkpoint,) = save(tmp_path, 'epoch_3.pth')
    cfg = make_config(work_dir=str(tmp_path))

    cli.set_resume(cfg, checkpoint)

    assert cfg.resume is True
    assert cfg.load_from == checkpoint


def test_resume_from_a_missing_path_names_what_is_there(tmp_path):
    save(tmp_path, 'epoch_3.pth')
    cfg = make_config(work_dir=str(tmp_path))

    with pytest.raises(FileNotFoundError, match=r"--resume='.*epoch_5\.pth'.* holds epoch_3\.pth"):
        cli.set_resume(cfg, str(tmp_path / 'epoch_5.pth'))


def test_resume_from_a_damaged_path_names_what_is_whole(tmp_path):
    _, damaged = save(tmp_path, 'epoch_3.pth', 'epoch_4.pth', damaged=['epoch_4.pth'])
    cfg = make_config(work_dir=str(tmp_path))

    with pytest.raises(ValueError, match=r'this one is damaged; .* holds epoch_3\.pth'):
        cli.set_resume(cfg, damaged)


def test_no_resume_leaves_the_config_as_it_is(tmp_path):
    cfg = make_config(work_dir=str(tmp_path), load_from='pretrained.pth')

    cli.set_resume(cfg, None)

    assert cfg.load_from == 'pretrained.pth'


def test_the_teacher_is_checked_on_demand():
    distiller = dict(type='reviewkd_mm.Distiller', student='a.py', teacher='b.py')
    check = dict(type='reviewkd_mm.CheckTeacherHook')
    validation = dict(val_dataloader=dict(), val_evaluator=dict(), val_cfg=dict())
    cfg = make_config(model=distiller, custom_hooks=[check], **validation)

    cli.check_teacher(cfg, 3)

    assert cfg.custom_hooks == [dict(check, num_batches=3)]


@pytest.mark.parametrize(
    ('keys', 'count', 'message'),
    [
        (dict(model=dict(type='Distiller', student={}, teacher={})), 1, 'no .*val_evaluator'),
        (dict(model=dict(type='ImageClassifier')), 1, 'this model has no teacher'),
        (dict(), 0, r'--check-teacher=0: expected a number of batches >= 1'),
    ],
    ids=['no validation', 'no distiller', 'no batch'],
)
def test_a_check_of_the_teacher_that_cannot_be_made_is_refused(keys, count, message):
    with pytest.raises(ValueError, match=message):
        cli.check_teacher(Config(keys), count)
