"""CIFARResNet: layout, size, taps, initialisation and freezing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reviewkd_mm.models.backbones import CIFARResNet
from reviewkd_mm.registry import MODELS
from tests.numbers import assert_close64

pytestmark = pytest.mark.usefixtures('in_float64')

NARROW = (16, 16, 32, 64)
X4 = (32, 64, 128, 256)
BN = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build_classifier(depth: int, base_channels: tuple[int, ...] = NARROW) -> nn.Module:
    backbone = {'type': 'reviewkd_mm.CIFARResNet', 'depth': depth, 'base_channels': base_channels}
    head = {'type': 'LinearClsHead', 'num_classes': 100, 'in_channels': base_channels[-1]}
    return MODELS.build(
        {
            'type': 'mmpretrain.ImageClassifier',
            'backbone': backbone,
            'neck': {'type': 'GlobalAveragePooling'},
            'head': {**head, 'init_cfg': None},
        }
    )


def expected_keys(blocks: int, first_stage_downsamples: bool) -> list[str]:
    """The layout of a RepDistiller checkpoint without its ``fc``."""
    keys = ['conv1.weight', *(f'bn1.{name}' for name in BN)]
    for stage in (1, 2, 3):
        for block in range(blocks):
            prefix = f'layer{stage}.{block}'
            for index in (1, 2):
                keys += [f'{prefix}.conv{index}.weight']
                keys += [f'{prefix}.bn{index}.{name}' for name in BN]
            if block == 0 and (stage > 1 or first_stage_downsamples):
                keys += [f'{prefix}.downsample.0.weight']
                keys += [f'{prefix}.downsample.1.{name}' for name in BN]
    return keys


@pytest.mark.parametrize(
    ('depth', 'base_channels', 'parameters', 'published'),
    [
        (20, NARROW, 278_324, 0.28),
        (32, NARROW, 472_756, 0.47),
        (56, NARROW, 861_620, 0.86),
        (110, NARROW, 1_736_564, 1.74),
        (8, X4, 1_233_540, 1.23),
        (32, X4, 7_433_860, 7.43),
    ],
)
def test_parameter_count_at_100_classes(depth, base_channels, parameters, published):
    model = build_classifier(depth, base_channels)
    count = sum(p.numel() for p in model.parameters())
    assert count == parameters
    assert round(count / 1e6, 2) == published


@pytest.mark.parametrize(
    ('depth', 'base_channels', 'blocks'), [(8, NARROW, 1), (56, NARROW, 9), (8, X4, 1)]
)
def test_state_dict_has_the_names_of_repdistiller(depth, base_channels, blocks):
    model = CIFARResNet(depth, base_channels)
    assert sorted(model.state_dict()) == sorted(expected_keys(blocks, base_channels is X4))


@pytest.mark.parametrize('base_channels', [NARROW, X4])
def test_feature_maps(base_channels):
    model = CIFARResNet(8, base_channels, out_indices=(0, 1, 2))
    pairs = zip(base_channels[1:], (32, 16, 8), strict=True)
    sizes = [(2, channels, size, size) for channels, size in pairs]
    assert [tuple(x.shape) for x in model(images())] == sizes


def test_only_the_last_stage_by_default():
    every = CIFARResNet(8, out_indices=(0, 1, 2)).eval()
    last = CIFARResNet(8).eval()
    last.load_state_dict(every.state_dict())
    (feature,) = last(images())
    assert torch.equal(feature, every(images())[-1])


def test_other_image_sizes():
    (feature,) = CIFARResNet(8)(torch.randn(2, 3, 21, 33))
    assert feature.shape == (2, 64, 6, 9)


def test_taps_before_and_after_the_last_relu():
    """Student: stage outputs; teacher: inputs of their last ReLU; both: the pooled feature."""
    model = build_classifier(20)
    before, after, pooled = [], [], []
    for stage in (model.backbone.layer1, model.backbone.layer2, model.backbone.layer3):
        stage[-1].relu.register_forward_pre_hook(lambda _, args: before.append(args[0].clone()))
        stage.register_forward_hook(lambda *args: after.append(args[-1]))
    model.neck.register_forward_hook(lambda *args: pooled.extend(args[-1]))
    logits = model(images(), mode='tensor')

    assert [x.shape[1] for x in before] == [x.shape[1] for x in after] == [16, 32, 64]
    for pre, post in zip(before, after, strict=True):
        assert pre.min() < 0
        assert post.min() == 0
        assert torch.equal(pre.relu(), post)
    assert_close64(pooled[0], after[-1].mean((2, 3)))
    assert torch.equal(model.head.fc(pooled[0]), logits)


@pytest.mark.parametrize(
    ('depth', 'nearest'), [(57, '56, 62'), (18, '20, 14'), (6, '8'), (-4, '8'), ('56', 'an int')]
)
def test_a_depth_that_is_not_6n_plus_2(depth, nearest):
    with pytest.raises(ValueError, match=rf'depth={depth!r}: expected 6n\+2 .*{nearest}$'):
        MODELS.build({'type': 'CIFARResNet', 'depth': depth})


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('base_channels', 64, r'4 positive ints'),
        ('base_channels', (16, 32, 64), r'4 positive ints'),
        ('base_channels', (16, 16, 32, 0), r'4 positive ints'),
        ('out_indices', (3,), r'some of \[0, 1, 2\]'),
        ('out_indices', (), r'some of \[0, 1, 2\]'),
        ('frozen_stages', 4, r'-1 \(none\), 0 \(the stem\) to 3'),
    ],
)
def test_bad_arguments(key, value, expected):
    with pytest.raises(ValueError, match=rf'^{key}=.*{expected}'):
        CIFARResNet(20, **{key: value})


@pytest.mark.parametrize('sync_bn', [False, True])
def test_initial_weights(sync_bn):
    torch.manual_seed(0)
    model = CIFARResNet(20, X4)
    if sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for p in model.parameters():
        nn.init.constant_(p, 3.0)
    model.init_weights()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for conv in convs:
        std = math.sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels))
        assert conv.weight.std().item() == pytest.approx(std, rel=0.1)
        assert abs(conv.weight.mean().item()) < 0.1 * std
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == len(convs)
    assert all(torch.all(m.weight == 1) and torch.all(m.bias == 0) for m in norms)


def test_every_parameter_gets_a_gradient():
    model = build_classifier(14)
    model(images(4), mode='tensor').logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_train_and_eval_mode():
    model = CIFARResNet(8)
    model(images())
    assert model.bn1.num_batches_tracked == 1
    assert model.eval() is model
    batch, (alone,) = model(images(3))[0], model(images(3)[:1])
    assert model.bn1.num_batches_tracked == 1
    assert_close64(batch[:1], alone)


@pytest.mark.parametrize(
    ('frozen_stages', 'names'),
    [
        (-1, []),
        (0, ['conv1', 'bn1']),
        (2, ['conv1', 'bn1', 'layer1', 'layer2']),
        (3, ['conv1', 'bn1', 'layer1', 'layer2', 'layer3']),
    ],
)
def test_frozen_stages(frozen_stages, names):
    model = CIFARResNet(8, frozen_stages=frozen_stages).train()
    frozen = {n.split('.')[0] for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == set(names)
    modes = {n.split('.')[0]: m.training for n, m in model.named_modules() if 'bn' in n}
    assert all(training == (name not in names) for name, training in modes.items())


def test_norm_eval_keeps_the_statistics():
    model = CIFARResNet(8, norm_eval=True).train()
    before = model.bn1.running_mean.clone()
    model(images())
    assert torch.equal(model.bn1.running_mean, before)
    assert model.layer1.training
