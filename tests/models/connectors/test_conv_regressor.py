"""ConvRegressor: what it returns, its sizes, its initialisation and errors."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reviewkd_mm.models.connectors import ConvRegressor
from reviewkd_mm.registry import MODELS
from tests.numbers import assert_close64

pytestmark = pytest.mark.usefixtures('in_float64')


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_smoke():
    cfg = dict(type='reviewkd_mm.ConvRegressor', in_channels=[3, 4], out_channels=[5, 2])
    connector = MODELS.build(cfg)
    assert isinstance(connector, ConvRegressor)
    outputs = connector([noise(2, 3, 8, 8), noise(2, 4, 4, 4)])
    assert [tuple(x.shape) for x in outputs] == [(2, 5, 8, 8), (2, 2, 4, 4)]


@pytest.mark.parametrize('relu', [True, False])
def test_outputs_are_those_of_a_product_normalised_over_the_batch(relu):
    connector, x = ConvRegressor([3], [5], relu=relu), noise(2, 3, 4, 6)
    weight = connector.convs[0].conv.weight.flatten(1)
    expected = torch.einsum('oc,nchw->nohw', weight, x)
    mean = expected.mean((0, 2, 3), keepdim=True)
    variance = expected.var((0, 2, 3), keepdim=True, correction=0)
    expected = (expected - mean) / (variance + 1e-5).sqrt()

    (actual,) = connector([x])

    assert_close64(actual, expected.clamp(min=0) if relu else expected)


def test_a_larger_student_is_averaged_and_a_smaller_one_repeated():
    connector = ConvRegressor([3, 3], [5, 5], relu=False)
    large, small = noise(2, 3, 8, 4), noise(2, 3, 2, 2)
    outputs = connector([large, small], out_sizes=[(4, 2), (4, 4)])

    means = large.unflatten(3, (2, 2)).unflatten(2, (4, 2)).mean((3, 5))
    assert_close64(outputs[0], connector.convs[0](means))
    repeated = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert_close64(outputs[1], connector.convs[1](repeated))


def test_an_odd_size():
    connector = ConvRegressor([3], [5])
    assert connector([noise(2, 3, 7, 5)], out_sizes=[(4, 9)])[0].shape == (2, 5, 4, 9)


def test_initialisation_is_that_of_the_overhaul():
    conv = ConvRegressor([64], [128]).convs[0]
    assert conv.conv.bias is None
    assert conv.conv.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert (conv.norm.weight == 1).all()
    assert not conv.norm.bias.any()


def test_normalisation_may_be_another():
    connector = ConvRegressor([3], [4], norm_cfg=dict(type='GN', num_groups=2))
    assert isinstance(connector.convs[0].norm, nn.GroupNorm)


def test_every_parameter_gets_a_gradient():
    connector = ConvRegressor([3, 4], [5, 2])
    outputs = connector([noise(2, 3, 8, 8), noise(2, 4, 4, 4)])
    sum(F.mse_loss(x, noise(*x.shape, seed=1)) for x in outputs).backward()
    assert all(p.grad.abs().sum() > 0 for p in connector.parameters())


@pytest.mark.parametrize('channels', [([3], [4, 5]), ([], [])])
def test_channels_that_do_not_pair_up_are_refused(channels):
    with pytest.raises(ValueError, match=r'in_channels=.*out_channels='):
        ConvRegressor(*channels)


def test_wrong_numbers_of_features_are_refused():
    x = noise(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r'expected 1 features.*got 2'):
        ConvRegressor([3], [4])([x, x])
    with pytest.raises(ValueError, match='got 1 and 2'):
        ConvRegressor([3], [4])([x], out_sizes=[(4, 4), (4, 4)])
