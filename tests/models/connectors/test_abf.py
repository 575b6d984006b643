"""ABF: shapes, parameters, fusion by hand, initialisation and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call

from reviewkd_mm.models.connectors import ABF
from reviewkd_mm.registry import MODELS
from tests.numbers import assert_close64

pytestmark = pytest.mark.usefixtures('in_float64')


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_smoke():
    abf = MODELS.build({'type': 'ABF', 'in_channels': 4, 'mid_channels': 6, 'out_channels': 8})
    assert isinstance(abf, ABF)
    output, residual = abf(noise(2, 4, 6, 6), noise(2, 6, 3, 3))
    assert output.shape == (2, 8, 6, 6)
    assert residual.shape == (2, 6, 6, 6)


def test_without_attention_the_residual_is_added():
    abf = ABF(4, 6, 8, attention=False).eval()
    x, residual = noise(2, 4, 6, 6), noise(2, 6, 3, 3)

    _, fused = abf(x, residual)

    enlarged = residual.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert_close64(fused, abf.conv1(x) + enlarged)
    assert not any('att' in name for name, _ in abf.named_parameters())


@pytest.mark.parametrize('fuse', [True, False])
@pytest.mark.parametrize('attention', [True, False])
def test_a_residual_is_needed_exactly_where_one_is_fused(fuse, attention):
    abf = ABF(4, 6, 8, fuse=fuse, attention=attention)
    residual = None if fuse else noise(2, 6, 3, 3)

    with pytest.raises(ValueError, match=f'fuse={fuse} and takes'):
        abf(noise(2, 4, 6, 6), residual)


@pytest.mark.parametrize('size', [(6, 6), (5, 9), (1, 1)])
@pytest.mark.parametrize('residual_size', [(3, 3), (4, 5), (1, 1)])
@pytest.mark.parametrize('out_size', [None, (12, 12), (3, 7), (1, 1)])
def test_shapes(size, residual_size, out_size):
    abf = ABF(4, 6, 8)
    output, residual = abf(noise(2, 4, *size), noise(2, 6, *residual_size), out_size)
    assert output.shape == (2, 8, *(out_size or size))
    assert residual.shape == (2, 6, *(out_size or size))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_dtype(dtype):
    abf = ABF(4, 6, 8).to(dtype)
    output, residual = abf(noise(2, 4, 4, 4).to(dtype), noise(2, 6, 2, 2).to(dtype), (8, 8))
    assert output.dtype == residual.dtype == dtype


def test_parameters_are_those_of_the_two_convolutions_and_the_attention():
    abf = ABF(4, 6, 8)
    shapes = {name: tuple(p.shape) for name, p in abf.named_parameters()}
    assert shapes == {
        'conv1.conv.weight': (6, 4, 1, 1),
        'conv1.bn.weight': (6,),
        'conv1.bn.bias': (6,),
        'conv2.conv.weight': (8, 6, 3, 3),
        'conv2.bn.weight': (8,),
        'conv2.bn.bias': (8,),
        'att_conv.weight': (2, 12, 1, 1),
        'att_conv.bias': (2,),
    }
    assert not abf.conv1.with_activation
    assert not abf.conv2.with_activation
    assert not any(name.startswith('att_conv') for name in ABF(4, 6, 8, fuse=False).state_dict())


def test_what_is_fused_is_half_of_each_where_attention_is_undecided():
    abf = ABF(4, 6, 8).eval()
    nn.init.zeros_(abf.att_conv.weight)
    nn.init.zeros_(abf.att_conv.bias)
    x, residual = noise(2, 4, 4, 4), noise(2, 6, 4, 4)
    _, fused = abf(x, residual)
    assert_close64(fused, (abf.conv1(x) + residual) / 2)


@pytest.mark.parametrize('chosen', ['student', 'residual'])
def test_the_first_map_weighs_the_student_and_the_second_the_residual(chosen):
    abf = ABF(4, 6, 8).eval()
    nn.init.zeros_(abf.att_conv.weight)
    with torch.no_grad():
        abf.att_conv.bias.copy_(torch.tensor([99.0, -99.0]) * (1 if chosen == 'student' else -1))
    x, residual = noise(2, 4, 4, 4), noise(2, 6, 2, 2)
    output, fused = abf(x, residual)
    enlarged = residual.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert_close64(fused, abf.conv1(x) if chosen == 'student' else enlarged)
    assert_close64(output, abf.conv2(fused))


def test_the_residual_that_is_handed_on_has_the_teachers_size():
    abf = ABF(4, 6, 8, fuse=False).eval()
    x = noise(2, 4, 2, 3)
    output, residual = abf(x, out_size=(4, 6))
    enlarged = abf.conv1(x).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert_close64(residual, enlarged)
    assert_close64(output, abf.conv2(enlarged))


def test_images_do_not_mix_in_eval_mode():
    abf = ABF(4, 6, 8).eval()
    x, residual = noise(3, 4, 4, 4), noise(3, 6, 2, 2)
    together, _ = abf(x, residual)
    swapped, _ = abf(x.flip(0), residual.flip(0))
    assert_close64(swapped.flip(0), together)


@pytest.mark.parametrize(('fuse', 'residual'), [(True, None), (False, torch.zeros(1, 6, 4, 4))])
def test_residual_must_be_given_exactly_to_an_abf_that_fuses(fuse, residual):
    with pytest.raises(ValueError, match=f'fuse={fuse}'):
        ABF(4, 6, 8, fuse=fuse)(torch.zeros(1, 4, 4, 4), residual)


@pytest.mark.parametrize(('name', 'fan_in'), [('conv1', 128), ('conv2', 64 * 9)])
def test_convolutions_start_from_kaiming_uniform_with_a_of_1(name, fan_in):
    weight = getattr(ABF(128, 64, 128), name).conv.weight.detach()
    bound = math.sqrt(3 / fan_in)  # sqrt(6 / ((1 + a^2) * fan_in))
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_attention_starts_from_the_default_of_torch():
    att_conv = ABF(128, 256, 128).att_conv
    bound = 1 / math.sqrt(512)
    assert 0.95 * bound < att_conv.weight.abs().max() <= bound
    assert att_conv.bias.abs().max() <= bound
    assert att_conv.bias.any()


@pytest.mark.parametrize(
    ('norm_cfg', 'expected'),
    [
        (None, nn.BatchNorm2d),
        ({'type': 'SyncBN'}, nn.SyncBatchNorm),
        ({'type': 'GN', 'num_groups': 2}, nn.GroupNorm),
    ],
)
def test_norm_cfg(norm_cfg, expected):
    abf = ABF(4, 6, 8, norm_cfg=norm_cfg)
    assert isinstance(abf.conv1.norm, expected)
    assert isinstance(abf.conv2.norm, expected)


def test_every_parameter_gets_a_gradient():
    abf = ABF(4, 6, 8)
    output, _ = abf(noise(2, 4, 4, 4), noise(2, 6, 2, 2), (8, 8))
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in abf.parameters())


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('fuse', [True, False])
def test_gradcheck(training, fuse):
    abf = ABF(2, 2, 2, fuse=fuse).train(training)
    x = noise(2, 2, 3, 2).requires_grad_()
    residual = noise(2, 2, 2, 1, seed=1).requires_grad_() if fuse else None
    names, parameters = zip(*abf.named_parameters(), strict=True)

    def forward(x: Tensor, residual: Tensor | None, *values: Tensor) -> tuple[Tensor, Tensor]:
        own = dict(zip(names, values, strict=True))
        return functional_call(abf, own, (x, residual, (4, 5)))

    assert gradcheck(forward, (x, residual, *parameters))


@pytest.mark.parametrize('residual_size', [(6, 8), (3, 4), (4, 3)])
def test_what_is_fused_is_the_two_weighted_by_the_attention_maps(residual_size):
    abf = ABF(4, 6, 8).eval()
    x = noise(2, 4, 6, 8)
    residual = noise(2, 6, *residual_size, seed=1)

    maps = abf.attention_maps(abf.conv1(x), residual)

    # The nearest pixel of the residual, found by its index.
    rows = [row * residual_size[0] // 6 for row in range(6)]
    columns = [column * residual_size[1] // 8 for column in range(8)]
    enlarged = residual[:, :, rows][:, :, :, columns]
    assert maps.shape == (2, 2, 6, 8)
    _, fused = abf(x, residual)
    assert_close64(fused, maps[:, :1] * abf.conv1(x) + maps[:, 1:] * enlarged)
    both = torch.cat([abf.conv1(x), enlarged], dim=1)
    weight, bias = abf.att_conv.weight[:, :, 0, 0], abf.att_conv.bias
    logits = torch.einsum('oc,nchw->nohw', weight, both) + bias[:, None, None]
    assert_close64(maps, 1 / (1 + torch.exp(-logits)))


@pytest.mark.parametrize(('fuse', 'attention'), [(False, True), (True, False)])
def test_there_are_no_attention_maps_where_nothing_is_weighted(fuse, attention):
    abf = ABF(4, 6, 8, fuse=fuse, attention=attention)

    with pytest.raises(
        ValueError, match=f'^ABF was built with fuse={fuse} and has no attention maps'
    ):
        abf.attention_maps(noise(2, 6, 4, 4), noise(2, 6, 2, 2))
