"""Every config is checked, trains two steps and validates through the Runner."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from reviewkd_mm.cli import check_config
from reviewkd_mm.config import is_distiller
from reviewkd_mm.models.distillers import Distiller
from tests.configs.data import write_data
from tests.configs.reading import FILES, expected_hooks, name_of
from tests.configs.running import STEPS, brief, shrink_noise

OPTIONAL = {
    'panoptic-fpn_r101_r50_coco': 'panopticapi',
    'pspnet_r101_r18_cityscapes': 'mmseg',
}
# The last convolution of MMDetection's MobileNetV2 leads into no level of the neck.
UNUSED = {'backbone.conv2.conv.weight'}
METRICS = {
    'Accuracy': lambda cfg: {f'accuracy/top{k}' for k in cfg.topk},
    'CocoMetric': lambda cfg: {f'coco/{kind}_mAP' for kind in as_list(cfg.metric)},
    'CocoPanopticMetric': lambda _: {'coco_panoptic/PQ'},
    'IoUMetric': lambda _: {'mIoU'},
}


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the data of every config."""
    root = tmp_path_factory.mktemp('root')
    write_data(root)
    # A data set collects garbage as it is built, which what was imported is not.
    gc.freeze()
    yield root
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_frills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longer than the training.

    The Runner asks compilers for their versions, and a config that is written is made pretty.
    """
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))


@pytest.mark.parametrize('file', FILES, ids=name_of)
def test_a_config_trains_and_validates(file, root, tmp_path, monkeypatch):
    if file.stem in OPTIONAL:
        pytest.importorskip(OPTIONAL[file.stem], reason=f'it needs {OPTIONAL[file.stem]}')
    monkeypatch.chdir(root)
    if 'cifar100' in file.stem:
        shrink_noise(monkeypatch)
    cfg = brief(file, tmp_path)
    runner = Runner.from_cfg(cfg)
    assert hooks_of_ours(runner) == expected_hooks(cfg)
    # The Runner has built the model and written what it was given: it is built once for both.
    models = SimpleNamespace(build=lambda _: runner.model)
    monkeypatch.setattr('reviewkd_mm.cli.config_check.MODELS', models)
    look_at_check(tmp_path / file.name, cfg)
    idle = watch_gradients(runner.model)
    called = watch_teacher(runner.model)

    runner.train()

    assert runner.iter == STEPS
    look_at_logs(runner, cfg)
    unused = UNUSED if cfg.get('find_unused_parameters') else set()
    assert {name.removeprefix('student.') for name in idle} == unused
    if is_distiller(cfg.model):
        look_at_distillation(runner, cfg, called)


def hooks_of_ours(runner: Runner) -> set[str]:
    kinds = [type(hook) for hook in runner.hooks]
    return {kind.__name__ for kind in kinds if kind.__module__.startswith('reviewkd_mm.')}


def look_at_check(file: Path, cfg: Config) -> None:
    """Check that the tool for it finds everything that the training needs."""
    check = check_config(str(file), flops=False)

    assert (check.error, check.missing, check.downloads) == (None, [], [])
    networks = {'student', 'teacher'} if is_distiller(cfg.model) else {'model'}
    assert set(check.networks) == networks
    assert all(network.parameters > 0 for network in check.networks.values())
    transfers = cfg.model.get('transfers', {})
    assert {name: found.loss for name, found in check.transfers.items()} == {
        name: transfer.loss.type for name, transfer in transfers.items()
    }


def watch_gradients(model: nn.Module) -> set[str]:
    """Return the names of the parameters that have had no gradient, emptied while it trains."""
    idle = {name for name, p in model.named_parameters() if p.requires_grad}
    for name, p in model.named_parameters():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(lambda _, name=name: idle.discard(name))
    return idle


def watch_teacher(model: nn.Module) -> set[str]:
    """Return the names of the teacher's parts that have run, filled while it trains."""
    called: set[str] = set()
    if isinstance(model, Distiller):
        for name, part in model.teacher.named_children():
            part.register_forward_pre_hook(lambda *_, name=name: called.add(name))
    return called


def look_at_logs(runner: Runner, cfg: Config) -> None:
    """Check the losses of each step and the metrics."""
    scalars = {key: values.data[0] for key, values in runner.message_hub.log_scalars.items()}
    losses = {
        key.removeprefix('train/'): values
        for key, values in scalars.items()
        if key.startswith('train/loss')
    }
    assert all(math.isfinite(value) for values in losses.values() for value in values)
    transfers = cfg.model.get('transfers', {})
    if cfg.default_scope == 'mmpretrain':
        task = {'loss', 'loss_cls'} if transfers else {'loss'}
        assert set(losses) == task | {f'loss_{name}' for name in transfers}
    for name, transfer in transfers.items():
        # In the first epoch a warm-up has the factor 0.
        is_idle = transfer.get('warmup_epochs', 0) > 0
        assert [value > 0 for value in losses[f'loss_{name}']] == [not is_idle] * STEPS
    evaluator = cfg.val_evaluator
    metrics = {f'val/{key}' for key in METRICS[evaluator.type](evaluator)}
    assert metrics <= set(scalars)


def look_at_distillation(runner: Runner, cfg: Config, called: set[str]) -> None:
    """Check what ran of the teacher and what was saved."""
    tapped = {tap_source(tap).partition('.')[0] for tap in all_taps(cfg.model.transfers)}
    parts = dict(runner.model.teacher.named_children())
    assert called == ({'backbone', 'neck'} | tapped) & set(parts)
    folder = Path(cfg.work_dir)
    last = torch.load((folder / 'last_checkpoint').read_text(), weights_only=False)
    assert {key.partition('.')[0] for key in last['state_dict']} <= {'student', 'transfers'}
    stock = Config.fromfile(folder / 'student_last.py')
    assert stock.model.type.rpartition('.')[2] == cfg.model.student.type.rpartition('.')[2]
    if cfg.default_scope == 'mmdet':
        assert stock.custom_imports.imports == ['reviewkd_mm.mmcv_ops']
        assert stock.dump().count('reviewkd_mm') == 1
    assert (folder / 'student_last.pth').is_file()


def all_taps(transfers: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    taps = []
    for transfer in transfers.values():
        teacher = transfer['teacher']
        taps += teacher if isinstance(teacher, (list, tuple)) else [teacher]
    return taps


def tap_source(tap: str | Mapping[str, Any]) -> str:
    return tap if isinstance(tap, str) else tap['source']
