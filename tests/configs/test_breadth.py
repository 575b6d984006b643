"""Detectors of every kind, and a segmentor, are distilled by configuration alone."""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from reviewkd_mm.config import read_config
from reviewkd_mm.export.student import export_student, student_config
from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.models.distillers.model_source import ModelSource, read_source
from reviewkd_mm.models.distillers.probe import probe
from reviewkd_mm.models.recorders import Recorder
from reviewkd_mm.registry import MODELS
from tests.configs.reading import CONFIGS, SEGMENTORS, build, skip_without_mmseg
from tests.configs.shrink import shrink_model
from tests.numbers import assert_close64, assert_within_rounding

FPN = [256] * 5
# The student's config in its zoo; the channels of the student's taps and of the teacher's.
DETECTORS = {
    'gfl_r101_r50_coco': ('mmdet::gfl/gfl_r50_fpn_1x_coco.py', FPN, FPN),
    'atss_r101_r50_coco': ('mmdet::atss/atss_r50_fpn_1x_coco.py', FPN, FPN),
    'dino_swin-l_r50_coco': ('mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', FPN[:4], FPN[:4]),
    'rtmdet_l_s_coco': ('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', [128] * 3, [256] * 3),
    'panoptic-fpn_r101_r50_coco': (
        'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
        FPN,
        FPN,
    ),
    'mask-rcnn_swin-s_r50_coco': ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', FPN, FPN),
    'mask-rcnn_r101-caffe_r50_coco': ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', FPN, FPN),
    'gfl_rtmdet-x_r50_coco': ('mmdet::gfl/gfl_r50_fpn_1x_coco.py', FPN[:3], [320] * 3),
}
PSPNET = (
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    [64, 128, 256, 512],
    [256, 512, 1024, 2048],
)
PAIRS = {**DETECTORS, **dict.fromkeys(SEGMENTORS, PSPNET)}
# Those whose teacher reads other pixels, and the one whose data needs a package.
SHRUNKEN = ('mask-rcnn_r101-caffe_r50_coco', 'gfl_rtmdet-x_r50_coco', 'panoptic-fpn_r101_r50_coco')
SIZES = ((96, 96), (64, 96))


def config_of(name: str) -> Config:
    """Read a pair's config, or skip where its package is not installed."""
    skip_without_mmseg(name)
    cfg = copy.deepcopy(read_once(name))
    init_default_scope(cfg.default_scope)
    return cfg


@cache
def read_once(name: str) -> Config:
    return read_config(CONFIGS / 'reviewkd' / f'{name}.py')


def shrink_pair(cfg: Config) -> Config:
    """Make student and teacher of a config small and free of downloads."""
    shrink_model(cfg)
    for part in (cfg.model.student, cfg.model.teacher):
        if 'size' in part['data_preprocessor']:  # MMSegmentation pads to this.
            part['data_preprocessor']['size'] = SIZES[0]
    return cfg


def raw_batch(distiller: Distiller) -> dict[str, Any]:
    """Draw two images of different sizes, annotated for the student's task."""
    np.random.seed(0)  # demo_mm_inputs draws the semantic map from it
    return demo_mm_inputs(
        len(SIZES),
        [(3, *size) for size in SIZES],
        num_classes=80,
        use_box_type=True,
        with_mask=distiller.with_mask,
        with_semantic=True,
    )


@pytest.mark.parametrize('name', SHRUNKEN)
def test_a_shrunken_pair_trains(name):
    cfg = shrink_pair(config_of(name))
    torch.manual_seed(0)
    # As the Runner does for a single process.
    distiller = revert_sync_batchnorm(build(cfg)).train()
    # An untrained teacher's features can be a hundred times a trained one's.
    optimizer = build_optim_wrapper(
        distiller, dict(cfg.optim_wrapper, clip_grad=dict(max_norm=1.0))
    )
    before = {key: p.detach().clone() for key, p in distiller.named_parameters()}
    called, seen = set(), []
    for path, module in distiller.teacher.named_modules():
        module.register_forward_pre_hook(lambda *_, path=path: called.add(path.split('.')[0]))
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    for _ in range(2):
        data = distiller.data_preprocessor(raw_batch(distiller), True)
        total, logged = distiller.parse_losses(distiller(**data, mode='loss'))
        total.backward()
        assert all(torch.isfinite(loss) for loss in logged.values())
        assert logged['loss_review'] > 0
        assert all(p.grad is not None for p in distiller.transfers.parameters())
        optimizer.step()
        optimizer.zero_grad()

    # No head, although taps, necks and tasks differ.
    assert called == {'backbone', 'neck'} & set(dict(distiller.teacher.named_children()))
    plain, exact = (
        copy.deepcopy(distiller.teacher.data_preprocessor).to(dtype)(raw_batch(distiller), True)
        for dtype in (torch.float32, torch.float64)
    )
    assert_within_rounding(seen[-1], plain['inputs'], exact['inputs'])
    after = dict(distiller.named_parameters())
    assert all(p.isfinite().all() for p in after.values())
    moved = {key for key, p in after.items() if not torch.equal(p, before[key])}
    assert {key.split('.')[0] for key in moved} == {'student', 'transfers'}


def tapped_shapes(source: ModelSource, taps: str | list[str]) -> list[tuple[int, ...]]:
    """Return (C, H, W) at a model's taps without memory for its weights."""
    recorder = Recorder(taps)
    with torch.device('meta'):
        model = source.build().to('meta')  # DINO makes a parameter that ignores the context.
        probe(model, {'taps': recorder})
    return [tuple(feature.shape[1:]) for feature in recorder.features()]


@pytest.mark.parametrize('name', PAIRS)
def test_taps_and_checkpoint_of_a_pair_of_full_size(name, monkeypatch):
    cfg = config_of(name)
    taps = cfg.model.transfers.review
    student = read_source('student', cfg.model.student)
    teacher = read_source('teacher', cfg.model.teacher)
    # Swin reads numbers from this while it is built.
    monkeypatch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))

    student_shapes = tapped_shapes(student, taps.student)
    teacher_shapes = tapped_shapes(teacher, taps.teacher)

    _, student_channels, teacher_channels = PAIRS[name]
    assert [channels for channels, *_ in student_shapes] == student_channels
    assert [channels for channels, *_ in teacher_shapes] == teacher_channels
    # Levels of one stride are compared.
    assert [size for _, *size in student_shapes] == [size for _, *size in teacher_shapes]
    assert teacher.checkpoint.startswith('https://')


@pytest.mark.parametrize('name', PAIRS)
def test_the_exported_config_is_the_students_in_its_zoo(name):
    stock = student_config(config_of(name))._cfg_dict.to_dict()
    zoo = Config.fromstring(f'_base_ = {PAIRS[name][0]!r}', '.py')._cfg_dict.to_dict()

    assert stock.pop('custom_imports')['imports'] == ['reviewkd_mm.mmcv_ops']
    assert stock.pop('custom_hooks', []) == zoo.pop('custom_hooks', [])
    for key in ('load_from', 'resume'):
        del zoo[key]
    assert stock == zoo


def test_an_exported_segmentor_loads_strictly_as_a_stock_model(tmp_path):
    cfg = shrink_pair(config_of(*SEGMENTORS))
    distiller = build(copy.deepcopy(cfg)).eval()
    torch.save(dict(state_dict=distiller.state_dict(), meta={}), tmp_path / 'trained.pth')

    checkpoint, config = export_student(cfg, tmp_path / 'trained.pth', tmp_path / 'student.pth')

    stock = Config.fromfile(config)
    init_default_scope(stock.default_scope)
    model = MODELS.root.build(stock.model).eval()
    load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    assert type(model).__module__.startswith('mmseg.')
    inputs = torch.randn(2, 3, *SIZES[0], dtype=torch.float64)
    with torch.no_grad():
        assert_close64(model.double()(inputs), distiller.double()(inputs))
