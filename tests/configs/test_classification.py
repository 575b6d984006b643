"""The classification configs build, take a training step, and tap what the paper taps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample

from reviewkd_mm.config import is_distiller
from reviewkd_mm.models.recorders import Recorder
from tests.configs.reading import CONFIGS, FILES, build, name_of, read

CIFAR = [file for file in FILES if 'cifar100' in file.stem or 'digits' in file.stem]
PAIRS = [file for file in CIFAR if file.parent.name in ('reviewkd', 'kd')]

# Channels and sides of the student's and the teacher's taps, shallow to deep, from the paper.
RESNET = [(16, 32), (32, 16), (64, 8), (64, 1)]
RESNET_X4 = [(64, 32), (128, 16), (256, 8), (256, 1)]
WRN_1 = [(16, 32), (32, 16), (64, 8), (64, 1)]
WRN_2 = [(32, 32), (64, 16), (128, 8), (128, 1)]
TAPS = {
    'resnet56_resnet20_cifar100': (0.6, RESNET, RESNET),
    'resnet110_resnet32_cifar100': (1.0, RESNET, RESNET),
    'resnet32x4_resnet8x4_cifar100': (5.0, RESNET_X4, RESNET_X4),
    'wrn40-2_wrn16-2_cifar100': (5.0, WRN_2, WRN_2),
    'wrn40-2_wrn40-1_cifar100': (5.0, WRN_1, WRN_2),
}


@pytest.mark.parametrize('file', CIFAR, ids=name_of)
def test_a_classification_config_trains_a_step(file):
    cfg = read(file)
    model = build(cfg).train()
    classes = model.head.num_classes
    batch = dict(
        inputs=torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8),
        data_samples=[DataSample().set_gt_label(i % classes) for i in range(4)],
    )
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    total, logged = model.parse_losses(losses)
    total.backward()

    expected = {'loss', 'loss_cls'} if is_distiller(cfg.model) else {'loss'}
    expected |= {f'loss_{name}' for name in cfg.model.get('transfers', {})}
    assert set(logged) == expected
    assert all(torch.isfinite(value) for value in logged.values())
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('name', TAPS)
def test_a_pair_taps_and_weighs_what_the_paper_does(name):
    weight, student_taps, teacher_taps = TAPS[name]
    cfg = read(CONFIGS / 'reviewkd' / f'{name}.py')
    distiller = build(cfg)
    spec = cfg.model.transfers.review
    images = torch.randn(2, 3, 32, 32)
    features = []
    for model, taps in ((distiller.student, spec.student), (distiller.teacher, spec.teacher)):
        recorder = Recorder(list(taps))
        with torch.no_grad(), recorder.recording(model):
            model.extract_feat(images)
        features.append(recorder.features())
        recorder.close()
    student, teacher = features

    assert [(f.shape[1], f.shape[2]) for f in student] == student_taps
    assert [(f.shape[1], f.shape[2]) for f in teacher] == teacher_taps
    # Before ReLU there are negative values; the ResNet students' stages come after it.
    assert all(bool((f < 0).any()) for f in teacher[:3])
    assert all(bool((f < 0).any()) == name.startswith('wrn') for f in student[:3])
    assert spec.loss.loss_weight == weight
    assert spec.warmup_epochs == 20
    assert cfg.train_cfg.max_epochs == 240
    assert cfg.param_scheduler.milestones == [151, 181, 211]


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
