"""CIFARShuffleNetV1: size, layout, taps and initialisation."""

from __future__ import annotations

import torch

from reviewkd_mm.models.backbones import CIFARShuffleNetV1
from tests.models.backbones.reading import (
    images,
    inputs_of,
    load_file,
    parameters_with_head,
    tapped,
)
from tests.models.backbones.textbook import count_parameters, shufflenet_v1
from tests.numbers import assert_close64

STAGES = ['layer1', 'layer2', 'layer3']
BEFORE = inputs_of(*(f'{stage}.-1.relu' for stage in STAGES))


def test_parameter_count_at_100_classes():
    count = parameters_with_head(CIFARShuffleNetV1(), channels=960)
    assert count == 949_258 == count_parameters('shufflenetv1', 100)


def test_features_are_those_of_the_file():
    model = CIFARShuffleNetV1(out_indices=(0, 1, 2))
    weights = load_file(model, 'shufflenetv1')
    expected = shufflenet_v1(images(), weights)
    assert_close64(model(images()), expected.after)
    features = tapped(model, [*BEFORE, *STAGES], images())
    assert_close64(features, [*expected.before, *expected.after])


def test_sizes_of_the_taps():
    shapes = [tuple(x.shape[1:]) for x in tapped(CIFARShuffleNetV1().double(), STAGES, images())]
    assert shapes == [(240, 16, 16), (480, 8, 8), (960, 4, 4)]


def test_odd_sizes():
    model = CIFARShuffleNetV1()
    weights = load_file(model, 'shufflenetv1')
    x = images(21, 33)
    assert_close64(model(x), shufflenet_v1(x, weights).after[-1:])


def test_initial_weights_are_those_of_pytorch():
    model = CIFARShuffleNetV1()
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.init_weights()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
