"""What holds for every small network: gradients, modes, freezing and precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reviewkd_mm.registry import MODELS
from tests.models.backbones.reading import images
from tests.numbers import assert_close64, assert_within_rounding

pytestmark = pytest.mark.usefixtures('in_float64')

CONFIGS = {
    'vgg': {'type': 'CIFARVGG', 'depth': 11},
    'mobilenet_v2': {'type': 'CIFARMobileNetV2'},
    'shufflenet_v1': {'type': 'CIFARShuffleNetV1'},
    'shufflenet_v2': {'type': 'CIFARShuffleNetV2'},
    'mobilenet_v1': {'type': 'MobileNetV1', 'widen_factor': 0.25},
}
networks = pytest.mark.parametrize('name', CONFIGS)


def build(name: str, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build({**CONFIGS[name], **kwargs})


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


@networks
def test_every_parameter_gets_a_gradient(name):
    model = build(name)
    model(images(64))[0].square().mean().backward()
    # The bias of a convolution has no effect before a BN in training.
    biases = {f'{n}.bias' for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    for parameter, p in model.named_parameters():
        assert p.grad is not None
        assert parameter in biases or p.grad.abs().sum() > 0


@networks
def test_no_feature_is_overwritten(name):
    """A recorder would have to copy it."""
    model, seen = build(name).train(), []
    for module in model.modules():
        module.register_forward_hook(lambda _, inputs, output: seen.extend((*inputs, output)))
    model(images())
    assert all(x._version == 0 for x in seen if isinstance(x, torch.Tensor))


@networks
def test_train_and_eval_mode(name):
    model = build(name)
    model(images())
    assert all(norm.num_batches_tracked == 1 for norm in norms(model))
    model.eval()
    x = images()
    assert_close64(model(x)[0][:1], model(x[:1])[0])
    assert all(norm.num_batches_tracked == 1 for norm in norms(model))


@networks
def test_norm_eval_keeps_the_statistics(name):
    model = build(name, norm_eval=True).train()
    assert model.training
    assert not any(norm.training for norm in norms(model))
    assert any(p.requires_grad for p in model.parameters())


@networks
def test_the_default_output_is_the_last_stage(name):
    model = build(name).eval()
    every = build(name, out_indices=range(len(model.stage_names))).eval()
    every.load_state_dict(model.state_dict())
    x = images()
    (last,) = model(x)
    outputs = every(x)
    assert len(outputs) == len(model.stage_names)
    assert torch.equal(outputs[-1], last)


@networks
def test_a_frozen_network_keeps_its_state(name):
    stages = len(build(name).stage_names)
    model = build(name, frozen_stages=stages).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    output = model(images())[0]
    assert not output.requires_grad
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@networks
def test_channels_last(name):
    model = build(name).eval()
    x = images()
    expected = model(x)[0]

    laid_out = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))

    assert_close64(laid_out[0], expected)


@networks
def test_channels_last_in_bfloat16_rounds_no_worse_than_contiguous(name):
    model = build(name).eval()
    x = images()
    (exact,) = model(x)
    model, x = model.float(), x.float()

    with torch.autocast('cpu', torch.bfloat16):
        (plain,) = model(x)
        model = model.to(memory_format=torch.channels_last)
        (actual,) = model(x.to(memory_format=torch.channels_last))

    assert_within_rounding(actual, plain, exact)
    actual.float().sum().backward()
