"""MobileNetV1: size, layout, taps, widths and freezing."""

from __future__ import annotations

import pytest
import torch

from reviewkd_mm.models.backbones import MobileNetV1
from reviewkd_mm.registry import MODELS
from tests.models.backbones.reading import (
    frozen_names,
    images,
    inputs_of,
    load_file,
    parameters_with_head,
    tapped,
)
from tests.models.backbones.textbook import count_parameters, mobilenet_v1
from tests.numbers import assert_close64

BLOCKS = (3, 5, 11, 13)
BEFORE = inputs_of(*(f'model.{block}.5' for block in BLOCKS))
NORMS = [f'model.{block}.4' for block in BLOCKS]
AFTER = [f'model.{block}' for block in BLOCKS]


def test_parameter_count_at_1000_classes():
    count = parameters_with_head(MobileNetV1(), channels=1024, classes=1000)
    assert count == 4_231_976 == count_parameters('mobilenetv1', 1000)


def test_features_are_those_of_the_file():
    model = MobileNetV1(out_indices=(2, 4, 10, 12))
    weights = load_file(model, 'mobilenetv1')
    expected = mobilenet_v1(images(64, 96), weights)
    assert_close64(model(images(64, 96)), expected.after)
    features = tapped(model, [*BEFORE, *NORMS, *AFTER], images(64, 96))
    assert_close64(features, [*expected.before, *expected.before, *expected.after])


def test_sizes_of_the_taps():
    features = tapped(MobileNetV1().double(), BEFORE, images(64))
    shapes = [tuple(x.shape[1:]) for x in features]
    assert shapes == [(128, 16, 16), (256, 8, 8), (512, 4, 4), (1024, 2, 2)]


def test_width():
    model = MobileNetV1(0.25, out_indices=(0, 12)).double()
    assert [x.shape[1] for x in model(images())] == [16, 256]


def test_initial_weights_are_those_of_pytorch():
    model = MobileNetV1(0.25)
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.init_weights()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('widen_factor', 0.01, r'a number of 0\.03125 or more'),
        ('widen_factor', None, r'a number of 0\.03125 or more'),
        ('out_indices', (13,), r'some of \[0, .*, 12\]'),
        ('frozen_stages', 14, r'-1 \(none\), 0 \(the stem\) to 13 \(all\)'),
    ],
)
def test_bad_arguments(key, value, expected):
    with pytest.raises(ValueError, match=f'{key}=.*: expected {expected}'):
        MODELS.build({'type': 'MobileNetV1', key: value})


@pytest.mark.parametrize('frozen_stages', [-1, 0, 3, 13])
def test_frozen_stages(frozen_stages):
    model = MobileNetV1(0.25, frozen_stages=frozen_stages).train()
    frozen = {f'model.{index}' for index in range(frozen_stages + 1)}
    assert frozen_names(model, depth=2) == frozen
    trained = {f'model.{index}' for index, block in enumerate(model.model) if block.training}
    assert trained == {f'model.{index}' for index in range(14)} - frozen
