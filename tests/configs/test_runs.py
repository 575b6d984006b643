"""Every config is checked; each class that one names is trained in one of them.

A training is two steps and a validation through the Runner. Configs of the same classes run the
same code, so that :data:`TRAINED` are enough of them to name every class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
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
from tests.configs.reading import CONFIGS, FILES, expected_hooks, name_of
from tests.configs.running import STEPS, brief, shrink_noise

OPTIONAL = {
    'panoptic-fpn_r101_r50_coco': 'panopticapi',
    'pspnet_r101_r18_cityscapes': 'mmseg',
}
# The last convolution of MMDetection's MobileNetV2 leads into no level of the neck.
UNUSED = {'backbone.conv2.conv.weight'}
TRAINED = (
    'at/resnet32x4_resnet8x4_cifar100',
    'baselines/faster-rcnn_mbv2_coco',
    'baselines/mask-rcnn_r18-thin_shapes',
    'baselines/resnet20_digits',
    'baselines/retinanet_r34_bccd',
    'baselines/shufflenetv2_cifar100',
    'baselines/vgg13_cifar100',
    'crd/resnet32x4_resnet8x4_cifar100',
    'dist/resnet32x4_resnet8x4_cifar100',
    'dkd/resnet32x4_resnet8x4_cifar100',
    'kd/resnet56_resnet20_cifar100',
    'ofd/resnet32x4_resnet8x4_cifar100',
    'reviewkd/atss_r101_r50_coco',
    'reviewkd/dino_swin-l_r50_coco',
    'reviewkd/gfl_r101_r50_coco',
    'reviewkd/mask-rcnn_r50_mbv2_coco',
    'reviewkd/panoptic-fpn_r101_r50_coco',
    'reviewkd/pspnet_r101_r18_cityscapes',
    'reviewkd/resnet50_mobilenetv1_imagenet',
    'reviewkd/resnet50_mobilenetv2_cifar100',
    'reviewkd/rtmdet_l_s_coco',
    'reviewkd/wrn40-2_shufflenetv1_cifar100',
    'rkd/resnet32x4_resnet8x4_cifar100',
    'sp/resnet32x4_resnet8x4_cifar100',
)
METRICS = {
    'Accuracy': lambda cfg: {f'accuracy/top{k}' for k in cfg.topk},
    'CocoMetric': lambda cfg: {f'coco/{kind}_mAP' for kind in as_list(cfg.metric)},
    'CocoPanopticMetric': lambda _: {'coco_panoptic/PQ'},
    'IoUMetric': lambda _: {'mIoU'},
}


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of every config."""
    root = tmp_path_factory.mktemp('root')
    write_data(root)
    return root


@pytest.fixture(autouse=True)
def no_frills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longer than the training.

    The Runner asks compilers for their versions, and a config that is written is made pretty.
    """
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))


@pytest.fixture
def read_brief(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Read a config made brief, in the folder of the data, or skip what is not installed."""
    monkeypatch.chdir(root)

    def read(file: Path) -> Config:
        if not is_installed(file):
            pytest.skip(f'it needs {OPTIONAL[file.stem]}')
        if 'cifar100' in file.stem:
            shrink_noise(monkeypatch)
        return brief(file, tmp_path)

    return read


def is_installed(file: Path) -> bool:
    return file.stem not in OPTIONAL or find_spec(OPTIONAL[file.stem]) is not None


def classes_of(node: Any) -> set[str]:
    """Return the classes that a part of a config names."""
    if isinstance(node, Mapping):
        own = {str(node['type'])} if 'type' in node else set()
        return own.union(*map(classes_of, node.values()))
    return set().union(*map(classes_of, node)) if isinstance(node, (list, tuple)) else set()


@pytest.fixture(scope='module')
def trained_classes(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The classes of the configs that are trained."""
    files = (CONFIGS / f'{name}.py' for name in TRAINED)
    folder = tmp_path_factory.mktemp('read')
    return set().union(*(classes_of(brief(f, folder).to_dict()) for f in files if is_installed(f)))


@pytest.mark.parametrize('file', FILES, ids=name_of)
def test_a_config_is_ready_and_its_classes_are_trained(
    file, read_brief, trained_classes, tmp_path
):
    cfg = read_brief(file)
    cfg.dump(tmp_path / file.name)

    check = check_config(str(tmp_path / file.name), flops=False)

    assert (check.error, check.missing, check.downloads) == (None, [], [])
    networks = {'student', 'teacher'} if is_distiller(cfg.model) else {'model'}
    assert set(check.networks) == networks
    assert all(network.parameters > 0 for network in check.networks.values())
    transfers = cfg.model.get('transfers', {})
    assert {name: found.loss for name, found in check.transfers.items()} == {
        name: transfer.loss.type for name, transfer in transfers.items()
    }
    assert classes_of(cfg.to_dict()) - trained_classes == set(), f'add {name_of(file)} to TRAINED'


@pytest.mark.parametrize('name', TRAINED)
def test_a_config_trains_and_validates(name, read_brief):
    cfg = read_brief(CONFIGS / f'{name}.py')
    runner = Runner.from_cfg(cfg)
    assert hooks_of_ours(runner) == expected_hooks(cfg)
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
