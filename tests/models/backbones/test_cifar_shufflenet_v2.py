"""CIFARShuffleNetV2: size, layout, taps, gradients and initialisation."""

from __future__ import annotations

import torch

from reviewkd_mm.models.backbones import CIFARShuffleNetV2
from tests.models.backbones.reading import (
    frozen_names,
    images,
    inputs_of,
    load_file,
    parameters_with_head,
    tapped,
)
from tests.models.backbones.textbook import conv, count_parameters, norm, shufflenet_v2
from tests.numbers import assert_close64

STAGES = ['layer1', 'layer2', 'layer3']
BEFORE = inputs_of(*(f'{stage}.-1.relu' for stage in STAGES))


def test_parameter_count_at_100_classes():
    count = parameters_with_head(CIFARShuffleNetV2(), channels=1024)
    assert count == 1_355_528 == count_parameters('shufflenetv2', 100)


def test_features_are_those_of_the_file():
    model = CIFARShuffleNetV2(out_indices=(0, 1, 2))
    weights = load_file(model, 'shufflenetv2')
    expected = shufflenet_v2(images(), weights)
    features = tapped(model, [*BEFORE, *STAGES], images())
    assert_close64(features, [*expected.before, *expected.after])
    assert all(feature.min() < 0 for feature in features[:3])
    last = norm(conv(expected.after[-1], weights, 'conv2'), weights, 'bn2').relu()
    assert_close64(model(images()), [*expected.after[:2], last])


def test_sizes_of_the_taps():
    shapes = [tuple(x.shape[1:]) for x in tapped(CIFARShuffleNetV2().double(), STAGES, images())]
    assert shapes == [(116, 16, 16), (232, 8, 8), (464, 4, 4)]


def test_a_relu_of_both_halves_gives_the_same_gradients():
    model = CIFARShuffleNetV2()
    weights = load_file(model, 'shufflenetv2')
    for name, p in model.named_parameters():
        weights[name].requires_grad_(p.requires_grad)
    features = tapped(model, [*BEFORE, *STAGES], images())
    sum(feature.square().mean() for feature in features).backward()
    expected = shufflenet_v2(images(), weights)
    textbook = [*expected.before, *expected.after]
    sum(feature.square().mean() for feature in textbook).backward()
    for name, p in model.named_parameters():
        if name.startswith(('conv1', 'bn1', 'layer')):
            assert_close64(p.grad, weights[name].grad, tolerance=1e-8)
            assert p.grad.abs().sum() > 0


def test_initial_weights_are_those_of_pytorch():
    model = CIFARShuffleNetV2()
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.init_weights()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_all_frozen_stages_include_the_last_convolution():
    model = CIFARShuffleNetV2(frozen_stages=3).train()
    assert frozen_names(model) == {'conv1', 'bn1', *STAGES, 'conv2', 'bn2'}
    assert not model.bn2.training
    assert CIFARShuffleNetV2(frozen_stages=2).train().bn2.training
