"""CIFARWideResNet: layout, size, taps, initialisation, dropout and freezing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from reviewkd_mm.models.backbones import CIFARWideResNet
from reviewkd_mm.registry import MODELS
from tests.numbers import assert_close64

pytestmark = pytest.mark.usefixtures('in_float64')

BN = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build_classifier(depth: int, widen_factor: int) -> nn.Module:
    backbone = {'type': 'reviewkd_mm.CIFARWideResNet', 'depth': depth}
    head = {'type': 'LinearClsHead', 'num_classes': 100, 'in_channels': 64 * widen_factor}
    return MODELS.build(
        {
            'type': 'mmpretrain.ImageClassifier',
            'backbone': {**backbone, 'widen_factor': widen_factor},
            'neck': {'type': 'GlobalAveragePooling'},
            'head': {**head, 'init_cfg': None},
        }
    )


def randomise_norms(model: nn.Module) -> None:
    """Give every BN its own affine map and statistics, so that no two of them act alike."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=generator)
            module.running_mean.uniform_(-0.5, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)


def expected_keys(blocks: int, widen_factor: int) -> list[str]:
    """The layout of a RepDistiller checkpoint without its ``fc``."""
    keys = ['conv1.weight', *(f'bn1.{name}' for name in BN)]
    for stage in (1, 2, 3):
        for block in range(blocks):
            prefix = f'block{stage}.layer.{block}'
            for index in (1, 2):
                keys += [f'{prefix}.conv{index}.weight']
                keys += [f'{prefix}.bn{index}.{name}' for name in BN]
            if block == 0 and (stage > 1 or widen_factor > 1):
                keys += [f'{prefix}.convShortcut.weight']
    return keys


@pytest.mark.parametrize(
    ('depth', 'widen_factor', 'parameters', 'published'),
    [
        (16, 2, 703_284, 0.70),
        (40, 1, 569_780, 0.57),
        (40, 2, 2_255_156, 2.26),
    ],
)
def test_parameter_count_at_100_classes(depth, widen_factor, parameters, published):
    model = build_classifier(depth, widen_factor)
    count = sum(p.numel() for p in model.parameters())
    assert count == parameters
    assert round(count / 1e6, 2) == published


@pytest.mark.parametrize(('depth', 'widen_factor'), [(16, 1), (16, 2), (40, 2)])
def test_state_dict_has_the_names_of_repdistiller(depth, widen_factor):
    model = CIFARWideResNet(depth, widen_factor)
    expected = expected_keys((depth - 4) // 6, widen_factor)
    assert sorted(model.state_dict()) == sorted(expected)


def test_feature_maps():
    model = CIFARWideResNet(10, 2, out_indices=(0, 1, 2))
    shapes = [tuple(x.shape) for x in model(images())]
    assert shapes == [(2, 32, 32, 32), (2, 64, 16, 16), (2, 128, 8, 8)]


def seen(x: Tensor) -> tuple[Tensor, int]:
    return x, x._version


def test_taps_raw_and_through_the_next_norm():
    """Student: raw stage outputs; teacher: the same after the next BN; both: the pooled one."""
    model = build_classifier(16, 2).eval()
    randomise_norms(model)
    backbone = model.backbone
    next_norms = (backbone.block2.layer[0].bn1, backbone.block3.layer[0].bn1, backbone.bn1)
    raw, normed, pooled = [], [], []
    stages = (backbone.block1, backbone.block2, backbone.block3)
    hooks = [model.neck.register_forward_hook(lambda *args: pooled.extend(args[-1]))]
    hooks += [m.register_forward_hook(lambda *args: raw.append(seen(args[-1]))) for m in stages]
    hooks += [
        m.register_forward_hook(lambda *args: normed.append(seen(args[-1]))) for m in next_norms
    ]
    model(images(), mode='tensor')
    for hook in hooks:
        hook.remove()
    (last,) = backbone(images())

    # The hooks keep the tensors themselves: nothing later in the forward may change them.
    assert all(x._version == version for x, version in (*raw, *normed))
    raw, normed = [x for x, _ in raw], [x for x, _ in normed]
    assert [x.shape[1] for x in raw] == [x.shape[1] for x in normed] == [32, 64, 128]
    for feature, norm, after in zip(raw, next_norms, normed, strict=True):
        assert feature.min() < 0
        assert after.min() < 0
        assert_close64(norm(feature), after)
    assert_close64(last, normed[-1].relu())
    assert_close64(pooled[0], last.mean((2, 3)))


def test_shortcut_of_a_block_that_changes_the_channels_follows_its_first_relu():
    torch.manual_seed(0)
    block = CIFARWideResNet(10, 2).block2.layer[0].eval()
    randomise_norms(block)
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 32, 8, 8)
    expected = block.convShortcut(block.bn1(x).relu())
    assert_close64(block(x), expected)


def test_shortcut_of_other_blocks_is_the_raw_input():
    block = CIFARWideResNet(16, 1).block1.layer[0].eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(('depth', 'nearest'), [(41, '40, 46'), (18, '16, 22'), (4, '10')])
def test_a_depth_that_is_not_6n_plus_4(depth, nearest):
    with pytest.raises(ValueError, match=rf'depth={depth}: expected 6n\+4 .*{nearest}$'):
        MODELS.build({'type': 'CIFARWideResNet', 'depth': depth, 'widen_factor': 2})


@pytest.mark.parametrize(
    ('key', 'value'), [('widen_factor', 0), ('widen_factor', 1.5), ('drop_rate', 1.0)]
)
def test_bad_arguments(key, value):
    with pytest.raises(ValueError, match=rf'^{key}={value}: expected'):
        CIFARWideResNet(**{'depth': 16, 'widen_factor': 1, key: value})


def test_initial_weights():
    torch.manual_seed(0)
    model = CIFARWideResNet(16, 2)
    for p in model.parameters():
        nn.init.constant_(p, 3.0)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            std = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(std, rel=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert torch.all(module.weight == 1)
            assert torch.all(module.bias == 0)


def test_every_parameter_gets_a_gradient():
    model = build_classifier(16, 1)
    model(images(4), mode='tensor').logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_dropout_acts_in_training_only():
    model = CIFARWideResNet(10, 1, drop_rate=0.5, norm_eval=True)
    assert not torch.equal(model.train()(images())[0], model(images())[0])
    assert torch.equal(model.eval()(images())[0], model(images())[0])


def test_without_dropout_training_is_deterministic():
    model = CIFARWideResNet(10, 1).train()
    assert torch.equal(model(images())[0], model(images())[0])


@pytest.mark.parametrize(
    ('frozen_stages', 'names'),
    [
        (0, ['conv1']),
        (1, ['conv1', 'block1']),
        (3, ['conv1', 'block1', 'block2', 'block3', 'bn1']),
    ],
)
def test_frozen_stages(frozen_stages, names):
    model = CIFARWideResNet(10, 1, frozen_stages=frozen_stages).train()
    frozen = {n.split('.')[0] for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == set(names)
    assert model.bn1.training == ('bn1' not in names)
    assert model.block1.layer[0].bn1.training == ('block1' not in names)
