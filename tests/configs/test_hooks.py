"""A config brings the hooks of its training along, and tools/train.py adds none."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS

from reviewkd_mm import cli
from reviewkd_mm.engine.hooks import AtomicCheckpointHook
from reviewkd_mm.export.student import student_config
from tests.configs.reading import CONFIGS, expected_hooks, skip_without_mmseg

ROOT = CONFIGS.parent
# Of each family what its own bases say of checkpoints.
BEST = dict(interval=1, max_keep_ckpts=2, save_best='auto')
BY_ITERATION = dict(by_epoch=False, interval=10000)
CHECKPOINTS = {
    'baselines/resnet20_cifar100': BEST,
    'baselines/resnet18_imagenet': BEST,
    'baselines/mask-rcnn_mbv2_coco': BY_ITERATION,
    'baselines/retinanet_r34_bccd': dict(interval=1),
    'ablations/resnet56_resnet20_rm_cifar100': BEST,
    'kd/resnet56_resnet20_cifar100_short': BEST,
    'reviewkd/resnet56_resnet20_dkd_cifar100': BEST,
    'reviewkd/resnet34_resnet18_imagenet': BEST,
    'reviewkd/retinanet_r101_r50_coco': BY_ITERATION,
    'reviewkd/mask-rcnn_r18_r18-thin_shapes': dict(interval=1),
    'reviewkd/dino_swin-l_r50_coco': dict(interval=1),
    'reviewkd/rtmdet_l_s_coco': dict(interval=10, max_keep_ckpts=3),
    'reviewkd/panoptic-fpn_r101_r50_coco': dict(interval=1),
    'reviewkd/pspnet_r101_r18_cityscapes': dict(by_epoch=False, interval=8000),
}
# Two that have hooks of their own besides.
CUSTOM = {
    'reviewkd/rtmdet_l_s_coco': ['EMAHook', 'PipelineSwitchHook'],
    'reviewkd/panoptic-fpn_r101_r50_coco': [],
}


def hooks_of_ours(cfg: Config) -> set[str]:
    types = [hook['type'] for hook in (*cfg.default_hooks.values(), *cfg.get('custom_hooks', ()))]
    return {name.partition('.')[2] for name in types if name.startswith('reviewkd_mm.')}


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_a_config_has_its_hooks_whoever_reads_it(name, tmp_path, monkeypatch):
    skip_without_mmseg(Path(name).name)
    file = str(CONFIGS / f'{name}.py')
    monkeypatch.setattr(sys, 'argv', ['train.py', file, '--work-dir', str(tmp_path)])
    monkeypatch.setattr(sys, 'path', [*sys.path])
    monkeypatch.setenv('LOCAL_RANK', '0')
    tool = runpy.run_path(str(ROOT / 'tools' / 'train.py'))

    cfg = Config.fromfile(file)
    trained = tool['merge_args'](cli.load_config(file), tool['parse_args']())

    for key in ('default_hooks', 'custom_hooks'):
        assert trained.get(key) == cfg.get(key)
    assert hooks_of_ours(cfg) == expected_hooks(cfg)
    checkpoint = dict(cfg.default_hooks.checkpoint)
    assert checkpoint.pop('type') == 'reviewkd_mm.AtomicCheckpointHook'
    checkpoint.pop('_scope_', None)
    assert checkpoint == CHECKPOINTS[name]
    custom = [hook['type'] for hook in cfg.get('custom_hooks') or []]
    assert custom == CUSTOM.get(name, [])


def test_a_pair_of_ones_own_has_them_by_a_base_and_a_line():
    readme = (ROOT / 'README.md').read_text()
    text = re.search(r'## Distil a pair of your own\n\n```python\n(.*?)```', readme, re.DOTALL)[1]

    cfg = Config.fromstring(text, '.py')

    assert hooks_of_ours(cfg) == expected_hooks(cfg)
    hook = HOOKS.build(cfg.default_hooks.checkpoint)
    assert isinstance(hook, AtomicCheckpointHook)
    assert hook.interval == 1
    assert 'reviewkd_mm' not in student_config(cfg).dump()
