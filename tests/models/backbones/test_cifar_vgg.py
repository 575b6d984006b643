"""CIFARVGG: size, layout, taps, pooling and initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reviewkd_mm.models.backbones import CIFARVGG
from reviewkd_mm.registry import MODELS
from tests.models.backbones.reading import (
    frozen_names,
    images,
    load_file,
    parameters_with_head,
    tapped,
)
from tests.models.backbones.textbook import count_parameters, vgg
from tests.numbers import assert_close64

BLOCKS = ['block1', 'block2', 'block3', 'block4']
RELUS = ['relu1', 'relu2', 'relu3', 'relu4']


@pytest.mark.parametrize(
    ('depth', 'parameters', 'published'), [(8, 3_965_028, 3.97), (13, 9_462_180, 9.46)]
)
def test_parameter_count_at_100_classes(depth, parameters, published):
    count = parameters_with_head(CIFARVGG(depth), channels=512)
    assert count == parameters == count_parameters(f'vgg{depth}', 100)
    assert round(count / 1e6, 2) == published


@pytest.mark.parametrize('depth', [8, 11, 13])
def test_features_are_those_of_the_file(depth):
    model = CIFARVGG(depth, out_indices=(0, 1, 2, 3))
    weights = load_file(model, f'vgg{depth}')
    expected = vgg(images(), weights, depth)
    assert_close64(model(images()), expected.after)
    assert_close64(tapped(model, [*BLOCKS, *RELUS], images()), [*expected.before, *expected.after])


def test_sizes_of_the_taps():
    shapes = [tuple(x.shape[1:]) for x in tapped(CIFARVGG(8).double(), RELUS, images())]
    assert shapes == [(128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 4, 4)]


@pytest.mark.parametrize(
    ('height', 'width', 'size'), [(64, 48, (4, 3)), (48, 64, (6, 8)), (72, 32, (9, 4))]
)
def test_only_images_64_high_are_pooled_before_the_last_block(height, width, size):
    model = CIFARVGG(8, out_indices=(2, 3))
    weights = load_file(model, 'vgg8')
    x = images(height, width)
    assert_close64(model(x), vgg(x, weights, 8).after[2:])
    assert model(x)[-1].shape[2:] == size


def test_initial_weights():
    torch.manual_seed(0)
    model = CIFARVGG(8)
    for p in model.parameters():
        nn.init.constant_(p, 3.0)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            std = math.sqrt(2 / (9 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(std, rel=0.1)
            assert torch.all(module.bias == 0)
        if isinstance(module, nn.BatchNorm2d):
            assert torch.all(module.weight == 1)
            assert torch.all(module.bias == 0)


@pytest.mark.parametrize('depth', [16, '8', [8]])
def test_an_unknown_depth(depth):
    with pytest.raises(ValueError, match=r'depth=.*: expected 8, 11 or 13$'):
        MODELS.build({'type': 'CIFARVGG', 'depth': depth})


@pytest.mark.parametrize(
    ('frozen_stages', 'names'),
    [
        (-1, set()),
        (0, {'block0'}),
        (2, {'block0', 'block1', 'block2'}),
        (4, {'block0', *BLOCKS}),
    ],
)
def test_frozen_stages(frozen_stages, names):
    model = CIFARVGG(8, frozen_stages=frozen_stages).train()
    assert frozen_names(model) == names
    assert all(getattr(model, name).training == (name not in names) for name in BLOCKS)
