"""Tests of what the options of a training change in its config."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from reviewkd_mm import cli


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


def test_resume_from_the_last_checkpoint(tmp_path):
    (tmp_path / 'last_checkpoint').write_text('epoch_1.pth')
    cfg = make_config(work_dir=str(tmp_path), load_from='pretrained.pth')

    cli.set_resume(cfg, 'auto')

    assert cfg.resume is True
    assert cfg.load_from is None, 'the Runner looks for the last checkpoint only without it'


def test_a_first_start_with_resume_keeps_load_from(tmp_path):
    cfg = make_config(work_dir=str(tmp_path), load_from='pretrained.pth')

    cli.set_resume(cfg, 'auto')

    assert cfg.load_from == 'pretrained.pth'
    assert not cfg.get('resume')


def test_resume_from_a_path(tmp_path):
    checkpoint = tmp_path / 'epoch_3.pth'
    checkpoint.touch()
    cfg = make_config(work_dir=str(tmp_path))

    cli.set_resume(cfg, str(checkpoint))

    assert cfg.resume is True
    assert cfg.load_from == str(checkpoint)


def test_resume_from_a_missing_path_names_what_is_there(tmp_path):
    (tmp_path / 'epoch_3.pth').touch()
    cfg = make_config(work_dir=str(tmp_path))

    with pytest.raises(FileNotFoundError, match=r"--resume='.*epoch_5\.pth'.* holds epoch_3\.pth"):
        cli.set_resume(cfg, str(tmp_path / 'epoch_5.pth'))


def test_no_resume_leaves_the_config_as_it_is(tmp_path):
    cfg = make_config(work_dir=str(tmp_path), load_from='pretrained.pth')

    cli.set_resume(cfg, None)

    assert cfg.load_from == 'pretrained.pth'


@pytest.mark.parametrize('hooks', [{}, dict(custom_hooks=None), dict(custom_hooks=[LoggerHook()])])
def test_the_progress_bar_is_added_once(hooks):
    cfg = make_config(default_hooks=dict(timer=dict(type='IterTimerHook'), checkpoint=None))
    cfg.update(hooks)

    cli.add_hooks(cfg)
    cli.add_hooks(cfg)

    assert cfg.custom_hooks[-1] == dict(type='reviewkd_mm.ProgressBarHook')
    assert len(cfg.custom_hooks) == 1 + len(hooks.get('custom_hooks') or [])


def test_a_configured_progress_bar_is_not_doubled():
    bar = dict(type='reviewkd_mm.ProgressBarHook', interval=1)
    cfg = make_config(default_hooks=dict(progress=bar))

    cli.add_hooks(cfg)

    assert not cfg.get('custom_hooks')


def test_a_distiller_gets_the_hooks_that_it_lacks():
    distiller = dict(type='reviewkd_mm.Distiller', student='a.py', teacher='b.py')
    export = dict(type='reviewkd_mm.ExportStudentHook')
    cfg = make_config(model=distiller, custom_hooks=[export])

    cli.add_hooks(cfg)

    names = [hook['type'].removeprefix('reviewkd_mm.') for hook in cfg.custom_hooks]
    assert sorted(names) == ['EpochInfoHook', 'ExportStudentHook', 'ProgressBarHook']
