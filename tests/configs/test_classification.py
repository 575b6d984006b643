"""The classification configs tap what the paper taps, at full size, and weigh it so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from reviewkd_mm.models.distillers.model_source import read_source
from reviewkd_mm.models.recorders import Recorder
from reviewkd_mm.registry import MODELS
from tests.configs.reading import CONFIGS, FILES, name_of, read

CIFAR = [file for file in FILES if 'cifar100' in file.stem or 'digits' in file.stem]
PAIRS = [file for file in CIFAR if file.parent.name in ('reviewkd', 'kd')]

# Channels and sides of the student's and the teacher's taps, shallow to deep, from the paper.
RESNET = [(16, 32), (32, 16), (64, 8), (64, 1)]
RESNET_X4 = [(64, 32), (128, 16), (256, 8), (256, 1)]
WRN_1 = [(16, 32), (32, 16), (64, 8), (64, 1)]
WRN_2 = [(32, 32), (64, 16), (128, 8), (128, 1)]
VGG = [(128, 16), (256, 8), (512, 4), (512, 4), (512, 1)]
MOBILENET_V2 = [(12, 16), (16, 8), (48, 4), (160, 2), (1280, 1)]
RESNET_50 = [(256, 32), (512, 16), (1024, 8), (2048, 4), (2048, 1)]
SHUFFLENET_V1 = [(240, 16), (480, 8), (960, 4), (960, 1)]
SHUFFLENET_V2 = [(116, 16), (232, 8), (464, 4), (1024, 1)]
TAPS = {
    'resnet56_resnet20_cifar100': (0.6, RESNET, RESNET),
    'resnet110_resnet32_cifar100': (1.0, RESNET, RESNET),
    'resnet110_resnet20_cifar100': (0.6, RESNET, RESNET),
    'resnet32x4_resnet8x4_cifar100': (5.0, RESNET_X4, RESNET_X4),
    'wrn40-2_wrn16-2_cifar100': (5.0, WRN_2, WRN_2),
    'wrn40-2_wrn40-1_cifar100': (5.0, WRN_1, WRN_2),
    'vgg13_vgg8_cifar100': (5.0, VGG, VGG),
    'resnet32x4_shufflenetv1_cifar100': (5.0, SHUFFLENET_V1, RESNET_X4),
    'wrn40-2_shufflenetv1_cifar100': (5.0, SHUFFLENET_V1, WRN_2),
    'resnet32x4_shufflenetv2_cifar100': (8.0, SHUFFLENET_V2, RESNET_X4),
    'vgg13_mobilenetv2_cifar100': (8.0, MOBILENET_V2, VGG),
    'resnet50_mobilenetv2_cifar100': (30.0, MOBILENET_V2, RESNET_50),
}
# What is tapped before or without a ReLU can be negative.
NO_RELU = ('wrn16-2', 'wrn40-1', 'mobilenetv2')
SLOW = ('shufflenetv1', 'shufflenetv2', 'mobilenetv2')
IMAGENET_RESNET_18 = [(64, 56), (128, 28), (256, 14), (512, 7), (512, 1)]
IMAGENET_TAPS = {
    'resnet34_resnet18_imagenet': (1.0, 512, IMAGENET_RESNET_18, IMAGENET_RESNET_18),
    'resnet50_mobilenetv1_imagenet': (
        8.0,
        256,
        [(128, 56), (256, 28), (512, 14), (1024, 7), (1024, 1)],
        [(256, 56), (512, 28), (1024, 14), (2048, 7), (2048, 1)],
    ),
}


def tapped(cfg: Config, role: str, side: int) -> list[Tensor]:
    """Return the features at the taps of a pair's student or teacher, full-size and untrained."""
    recorder = Recorder(list(cfg.model.transfers.review[role]))
    model = read_source(role, cfg.model[role]).build()
    with torch.no_grad(), recorder.recording(model):
        model.extract_feat(torch.randn(2, 3, side, side))
    return recorder.features()


def channels_and_sides(features: list[Tensor]) -> list[tuple[int, int]]:
    return [(f.shape[1], f.shape[2]) for f in features]


def fused_channels(review: dict, student: list[tuple], teacher: list[tuple]) -> int:
    """Return the channels in which the connector of a transfer fuses features."""
    channels = ([channels for channels, _ in taps] for taps in (student, teacher))
    connector = dict(review.connector, type=f'reviewkd_mm.{review.connector.type}')
    sizes = dict(zip(('in_channels', 'out_channels'), channels, strict=True))
    return MODELS.build(dict(connector, **sizes)).abfs[0].conv1.out_channels


@pytest.mark.parametrize('name', TAPS)
def test_a_pair_taps_and_weighs_what_the_paper_does(name):
    weight, student_taps, teacher_taps = TAPS[name]
    cfg = read(CONFIGS / 'reviewkd' / f'{name}.py')
    spec = cfg.model.transfers.review

    student, teacher = (tapped(cfg, role, 32) for role in ('student', 'teacher'))

    assert channels_and_sides(student) == student_taps
    assert channels_and_sides(teacher) == teacher_taps
    assert all(bool((f < 0).any()) for f in teacher[:-1])
    student_name = name.split('_')[1]
    assert all(bool((f < 0).any()) == (student_name in NO_RELU) for f in student[:-1])
    assert spec.loss.loss_weight == weight
    assert spec.warmup_epochs == 20
    assert fused_channels(spec, student_taps, teacher_taps) == min(512, student_taps[-1][0])
    assert cfg.train_cfg.max_epochs == 240
    assert cfg.param_scheduler.milestones == [151, 181, 211]
    assert cfg.optim_wrapper.optimizer.lr == (0.02 if student_name in SLOW else 0.1)
    assert cfg.train_dataloader.batch_size == 128


@pytest.mark.parametrize('name', IMAGENET_TAPS)
def test_an_imagenet_pair_is_the_papers(name):
    weight, mid_channels, student_taps, teacher_taps = IMAGENET_TAPS[name]
    file = CONFIGS / 'reviewkd' / f'{name}.py'
    cfg = Config.fromfile(file)
    review = cfg.model.transfers.review

    student, teacher = (tapped(read(file), role, 224) for role in ('student', 'teacher'))

    assert channels_and_sides(student) == student_taps
    assert channels_and_sides(teacher) == teacher_taps
    # ResNets after ReLU, MobileNetV1 before it.
    assert all(f.min() == 0 for f in teacher[:-1])
    assert all(bool((f < 0).any()) == ('mobilenet' in name) for f in student[:-1])
    assert review.loss == dict(type='HCLLoss', loss_weight=weight)
    assert fused_channels(review, student_taps, teacher_taps) == mid_channels
    assert 'warmup_epochs' not in review
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler.milestones) == (100, [30, 60, 90])
    assert cfg.optim_wrapper.type == 'reviewkd_mm.AmpOptimWrapper'
    optimizer = cfg.optim_wrapper.optimizer
    keys = ('type', 'lr', 'momentum', 'weight_decay')
    assert [optimizer.get(key) for key in keys] == ['SGD', 0.1, 0.9, 0.0001]
    assert {*optimizer.keys()} <= {*keys, '_scope_'}
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size == 256
    assert cfg.model.teacher_ckpt == f'checkpoints/{name.split("_")[0]}_imagenet.pth'


@pytest.mark.parametrize('file', PAIRS, ids=name_of)
def test_a_pair_trains_its_baselines_student_on_its_baselines_data(file):
    cfg = Config.fromfile(file)
    teacher, student, *_, dataset = file.stem.removesuffix('_short').split('_')
    suffix = '_short' if file.stem.endswith('_short') else ''
    baseline = Config.fromfile(CONFIGS / 'baselines' / f'{student}_{dataset}{suffix}.py')

    assert cfg.model.student == baseline.model
    for key in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler'):
        assert cfg[key] == baseline[key]
    assert Path(cfg.model.teacher).stem == f'{teacher}_{dataset}'


def test_a_short_schedule_scales_the_warmup():
    full = Config.fromfile(CONFIGS / 'reviewkd' / 'resnet56_resnet20_cifar100.py')
    short = Config.fromfile(CONFIGS / 'reviewkd' / 'resnet56_resnet20_cifar100_short.py')
    ratios = [
        cfg.model.transfers.review.warmup_epochs / cfg.train_cfg.max_epochs
        for cfg in (full, short)
    ]

    assert ratios[0] == pytest.approx(ratios[1])
