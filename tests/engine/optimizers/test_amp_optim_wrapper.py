"""Tests of the AMP wrapper: precision, gradients, state and devices."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn
from torch.amp import GradScaler
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

import reviewkd_mm.registry  # noqa: F401  (makes the scope known)
from reviewkd_mm.engine.optimizers import AmpOptimWrapper
from tests.numbers import assert_within_rounding

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


class Net(nn.Module):
    """Two layers that keep the dtype of what runs between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 1)
        self.seen: torch.dtype | None = None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.first(inputs)
        self.seen = hidden.dtype
        return self.second(hidden.relu())


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def make_wrapper(net: nn.Module, lr: float = 0.05, **kwargs) -> AmpOptimWrapper:
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    return AmpOptimWrapper(optimizer=optimizer, **kwargs)


def loss_of(net: Net) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(16, 4, generator=generator).to(net.first.weight)
    return (net(inputs).to(inputs) - inputs.sum(1, keepdim=True)).square().mean()


def step(net: Net, wrapper: OptimWrapper) -> float:
    with wrapper.optim_context(net):
        loss = loss_of(net)
    wrapper.update_params(loss)
    return loss.item()


def test_cpu_runs_in_bfloat16_and_learns(net):
    wrapper = make_wrapper(net)

    losses = [step(net, wrapper) for _ in range(20)]

    assert net.seen == torch.bfloat16
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert losses[-1] < 0.3 * losses[0]
    assert not wrapper.loss_scaler.is_enabled()


def test_it_is_built_from_a_config(net):
    wrapper = build_optim_wrapper(
        net, dict(type='reviewkd_mm.AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    )

    assert type(wrapper) is AmpOptimWrapper
    assert wrapper.cast_dtype == torch.bfloat16


@pytest.mark.parametrize('dtype', ['bfloat16', torch.bfloat16, 'float16', torch.float16])
def test_an_explicit_dtype_is_used(net, dtype):
    wrapper = make_wrapper(net, dtype=dtype)

    step(net, wrapper)

    assert net.seen == (getattr(torch, dtype) if isinstance(dtype, str) else dtype)
    assert wrapper.loss_scaler.is_enabled() == (net.seen == torch.float16)


def test_float16_gradients_are_unscaled(net):
    """A step in float16 moves the weights as one does whose float16 nothing is scaled for."""
    before, plain_net = net.first.weight.detach().clone(), copy.deepcopy(net)
    exact_net = copy.deepcopy(net).double()
    wrapper = make_wrapper(net, dtype='float16', loss_scale=dict(init_scale=128.0))

    step(net, wrapper)

    assert wrapper.loss_scaler.get_scale() == 128, 'the step must not have been skipped'
    with torch.autocast('cpu', dtype=torch.float16):
        (plain,) = torch.autograd.grad(loss_of(plain_net), plain_net.first.weight)
    (exact,) = torch.autograd.grad(loss_of(exact_net), exact_net.first.weight)
    assert_within_rounding((before - net.first.weight) / 0.05, plain, exact)


def test_an_overflow_skips_the_step_and_lowers_the_scale(net):
    wrapper = make_wrapper(net, dtype='float16')
    before = net.first.weight.detach().clone()

    step(net, wrapper)

    assert torch.equal(net.first.weight, before)
    assert wrapper.loss_scaler.get_scale() == 2**15


def test_a_static_scale_stays(net):
    wrapper = make_wrapper(net, dtype='float16', loss_scale=128)

    step(net, wrapper)

    assert wrapper.loss_scaler.get_scale() == 128


def test_scaler_arguments(net):
    wrapper = make_wrapper(net, dtype='float16', loss_scale=dict(init_scale=4.0))

    assert wrapper.loss_scaler.get_scale() == 4
    assert type(wrapper.loss_scaler) is GradScaler
    assert isinstance(make_wrapper(net, use_fsdp=True).loss_scaler, ShardedGradScaler)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_gradients_are_accumulated(net, dtype):
    wrapper = make_wrapper(net, dtype=dtype, accumulative_counts=2)
    before = net.first.weight.detach().clone()

    step(net, wrapper)
    assert torch.equal(net.first.weight, before)
    step(net, wrapper)
    assert not torch.equal(net.first.weight, before)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_gradients_are_clipped_after_unscaling(net, dtype):
    wrapper = make_wrapper(
        net, lr=1.0, dtype=dtype, loss_scale=128.0, clip_grad=dict(max_norm=1e-2)
    )
    before = [p.detach().clone() for p in net.parameters()]

    step(net, wrapper)

    moves = [(p - b).flatten() for p, b in zip(net.parameters(), before, strict=True)]
    # A move is the difference of two weights, each of which is rounded.
    weights = torch.cat([b.flatten() for b in before]).norm().item()
    rounding = torch.finfo(torch.float32).eps * weights
    # torch adds 1e-6 to the norm by which it divides.
    assert torch.cat(moves).norm().item() == pytest.approx(1e-2, rel=1e-4, abs=4 * rounding)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_state_dict_round_trip(net, dtype):
    wrapper = make_wrapper(net, dtype=dtype, loss_scale=dict(init_scale=64.0))
    for _ in range(3):
        step(net, wrapper)
    state = copy.deepcopy(wrapper.state_dict())
    assert 'loss_scaler' in state

    twin_net = copy.deepcopy(net)
    twin = make_wrapper(twin_net, lr=9.0, dtype=dtype)
    twin.load_state_dict(state)

    assert 'loss_scaler' in state, 'the given state dict must be left whole'
    assert twin.loss_scaler.get_scale() == wrapper.loss_scaler.get_scale()
    assert step(twin_net, twin) == step(net, wrapper)
    assert torch.equal(twin_net.first.weight, net.first.weight)


@pytest.mark.parametrize(('saved', 'loaded'), [('bfloat16', 'float16'), ('float16', 'bfloat16')])
def test_resume_with_and_without_a_scaler(net, saved, loaded):
    source = make_wrapper(net, dtype=saved, loss_scale=64.0)
    step(net, source)

    target = make_wrapper(net, dtype=loaded, loss_scale=32.0)
    target.load_state_dict(source.state_dict())

    assert step(net, target) > 0
    assert target.optimizer.state_dict()['state'], 'the momentum must have been loaded'


def test_resume_from_and_to_a_plain_wrapper(net):
    plain = OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))
    step(net, plain)
    wrapper = make_wrapper(net)

    wrapper.load_state_dict(plain.state_dict())
    plain.load_state_dict(wrapper.state_dict())

    assert step(net, wrapper) > 0


@pytest.mark.parametrize('value', ['float61', 'fp16', torch.float32, 3])
def test_a_wrong_dtype_is_refused(net, value):
    with pytest.raises(ValueError, match=r"optim_wrapper\.dtype=.*'float16', 'bfloat16'"):
        make_wrapper(net, dtype=value)


@pytest.mark.parametrize('value', ['dynamik', True, None])
def test_a_wrong_loss_scale_is_refused(net, value):
    with pytest.raises(ValueError, match=r"optim_wrapper\.loss_scale=.*'dynamic'"):
        make_wrapper(net, loss_scale=value)


@needs_cuda
def test_the_wrapper_follows_the_model_to_another_device(net):
    wrapper = make_wrapper(net)
    net.cuda()

    step(net, wrapper)

    assert net.seen == torch.float16
    assert wrapper.loss_scaler.is_enabled()


@needs_cuda
@pytest.mark.parametrize(('saved', 'loaded'), [('cpu', 'cuda'), ('cuda', 'cpu')])
def test_resume_on_another_device(net, saved, loaded):
    source = make_wrapper(net.to(saved))
    step(net, source)
    state = copy.deepcopy(source.state_dict())

    target_net = copy.deepcopy(net).to(loaded)
    target = make_wrapper(target_net)
    target.load_state_dict(state)

    assert step(target_net, target) > 0
