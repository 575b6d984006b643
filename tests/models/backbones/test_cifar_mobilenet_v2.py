"""CIFARMobileNetV2: size, layout, taps, widths and initialisation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reviewkd_mm.models.backbones import CIFARMobileNetV2
from reviewkd_mm.registry import MODELS
from tests.models.backbones.reading import (
    frozen_names,
    images,
    load_file,
    parameters_with_head,
    tapped,
)
from tests.models.backbones.textbook import conv, count_parameters, mobilenet_v2, norm
from tests.numbers import assert_close64

TAPS = ['blocks.1', 'blocks.2', 'blocks.4', 'blocks.6']


def test_parameter_count_at_100_classes():
    count = parameters_with_head(CIFARMobileNetV2(), channels=1280)
    assert count == 812_836 == count_parameters('mobilenetv2', 100)


def test_features_are_those_of_the_file():
    model = CIFARMobileNetV2()
    weights = load_file(model, 'mobilenetv2')
    before = mobilenet_v2(images(), weights).before
    assert_close64(tapped(model, TAPS, images()), before)
    last = norm(conv(before[-1], weights, 'conv2.0'), weights, 'conv2.1').relu()
    assert_close64(model(images()), [last])


def test_sizes_of_the_taps():
    shapes = [tuple(x.shape[1:]) for x in tapped(CIFARMobileNetV2().double(), TAPS, images())]
    assert shapes == [(12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2)]


def test_the_last_convolution_follows_the_last_stage_alone():
    model = CIFARMobileNetV2(out_indices=(0, 5, 6)).double()
    shapes = [tuple(x.shape[1:]) for x in model(images())]
    assert shapes == [(8, 16, 16), (80, 2, 2), (1280, 2, 2)]


@pytest.mark.parametrize(
    ('widen_factor', 'channels'), [(0.35, (5, 1280)), (1, (16, 1280)), (1.5, (24, 1920))]
)
def test_widths(widen_factor, channels):
    model = CIFARMobileNetV2(widen_factor, expansion=2, out_indices=(0, 6)).double()
    assert tuple(x.shape[1] for x in model(images())) == channels


def test_initial_weights():
    torch.manual_seed(0)
    model = CIFARMobileNetV2(1.0)
    for p in model.parameters():
        nn.init.constant_(p, 3.0)
    model.init_weights()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for module in convs:
        std = math.sqrt(2 / (module.kernel_size[0] ** 2 * module.out_channels))
        assert module.weight.std().item() == pytest.approx(std, rel=0.15)
        assert module.bias is None
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == len(convs)
    assert all(torch.all(m.weight == 1) and torch.all(m.bias == 0) for m in norms)


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('widen_factor', 0.05, r'a number of 0\.0625 or more'),
        ('widen_factor', 'half', r'a number of 0\.0625 or more'),
        ('expansion', 0, 'an int >= 1'),
        ('expansion', 1.5, 'an int >= 1'),
        ('out_indices', (7,), r'some of \[0, 1, 2, 3, 4, 5, 6\]'),
        ('frozen_stages', 8, r'-1 \(none\), 0 \(the stem\) to 7 \(all\)'),
    ],
)
def test_bad_arguments(key, value, expected):
    with pytest.raises(ValueError, match=f'{key}=.*: expected {expected}'):
        MODELS.build({'type': 'CIFARMobileNetV2', key: value})


@pytest.mark.parametrize(
    ('frozen_stages', 'names'),
    [
        (-1, set()),
        (0, {'conv1'}),
        (2, {'conv1', 'blocks.0', 'blocks.1'}),
        (7, {'conv1', 'conv2', *(f'blocks.{index}' for index in range(7))}),
    ],
)
def test_frozen_stages(frozen_stages, names):
    model = CIFARMobileNetV2(frozen_stages=frozen_stages).train()
    depths = {name.split('.')[0] for name in names}
    found = frozen_names(model, depth=2)
    assert {n if n.startswith('blocks') else n.split('.')[0] for n in found} == names
    assert model.conv2.training == ('conv2' not in depths)
    for index, stage in enumerate(model.blocks):
        assert stage.training == (f'blocks.{index}' not in names)
