"""Maps with the channels last are refused, unless the tap says so."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from reviewkd_mm.models.distillers.probe import probe
from reviewkd_mm.models.recorders import Recorder
from tests.models.distillers.helpers import batch, build_distiller, total
from tests.numbers import assert_close64

NHWC = dict(type='ModuleOutputs', source='last', layout='NHWC')


class ChannelsLast(nn.Module):
    """Hand a map over with its channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class Network(BaseModel):
    """A network that shows its map in both layouts, and may take one image size alone."""

    def __init__(self, channels: int = 6, stride: int = 4, size: int | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, stride, stride)
        self.last = ChannelsLast()
        self.size = size

    def forward(self, inputs, data_samples=None, mode='tensor'):
        assert self.size in (None, *inputs.shape[2:]), f'expected {self.size} pixels'
        assert self.size is None or inputs.shape[2] == inputs.shape[3]
        return self.last(self.first(inputs))


def shape_at(model: nn.Module, tap: str | dict) -> tuple[int, ...]:
    recorder = Recorder(tap)
    probe(model, {'transfers.a.teacher': recorder})
    return tuple(recorder.features()[0].shape)


@pytest.mark.parametrize('size', [None, 64, 224])
def test_channels_last_are_refused_with_the_tap_that_reads_them(size):
    model = Network(size=size)
    side = (size or 64) // 4

    with pytest.raises(ValueError, match=r'^transfers\.a\.teacher: ') as caught:
        shape_at(model, 'last')

    message = str(caught.value)
    assert f"tap 'last' gives maps of the shape (1, {side}, {side}, 6), channels last" in message
    assert "dict(type='ModuleOutputs', source='last', layout='NHWC')" in message


@pytest.mark.parametrize('size', [None, 64])
def test_channels_first_are_not_read_as_last(size):
    with pytest.raises(ValueError, match=r"layout='NHWC', but .*\(1, 6, 16, 16\), channels first"):
        shape_at(Network(size=size), dict(NHWC, source='first'))


@pytest.mark.parametrize('size', [None, 64])
@pytest.mark.parametrize('channels', [6, 16])
def test_maps_are_read_as_the_tap_says(channels, size):
    """16 channels are as many as a map of an image of 64 pixels has rows."""
    model = Network(channels, size=size)

    assert shape_at(model, 'first') == shape_at(model, NHWC) == (1, channels, 16, 16)


@pytest.mark.parametrize('stride', [32, 64])
def test_small_maps_tell_too(stride):
    with pytest.raises(ValueError, match='channels last'):
        shape_at(Network(stride=stride), 'last')


def test_one_pixel_of_one_image_size_tells_nothing():
    assert shape_at(Network(stride=64, size=64), 'last') == (1, 1, 1, 6)


@pytest.mark.parametrize('shape', [(2, 6), (2, 16, 6), (2, 6, 1, 1), (2, 4, 7, 7), (2, 7, 7, 7)])
def test_what_does_not_follow_the_image_passes(shape):
    model = Network()
    model.last = nn.Identity()
    model.last.forward = lambda x: torch.zeros(shape)

    assert shape_at(model, 'last')[:2] == shape[:2]


def test_the_check_draws_no_random_numbers_and_leaves_one_hook():
    """With 16 channels the model is run on a second image."""
    states = []
    for channels in (6, 16):
        model = Network(channels)
        torch.manual_seed(0)
        shape_at(model, 'first')
        states.append(torch.get_rng_state())
        assert len(model.first._forward_hooks) == 1

    assert torch.equal(*states)


class Swapped(nn.Module):
    """A stage whose map passes a module with its channels last."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage, self.last = stage, ChannelsLast()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.stage(x)).permute(0, 3, 1, 2)


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_a_tap_with_channels_last_trains_as_one_with_channels_first(side):
    stage = 'backbone.layer2'
    steps = []
    for source in (f'{stage}.stage', dict(NHWC, source=f'{stage}.last')):
        torch.manual_seed(0)
        distiller = build_swapped(dict({'student': stage, 'teacher': stage}, **{side: source}))
        inputs, samples = batch()
        losses = distiller.double().loss(inputs.double(), samples)
        total(losses).backward()
        grads = {name: p.grad for name, p in distiller.named_parameters()}
        steps.append((losses['loss_review'], grads))

    assert_close64(steps[1], steps[0])


def build_swapped(taps: dict) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        models = {side: build_distiller().student for side in ('student', 'teacher')}
    for model in models.values():
        model.backbone.layer2 = Swapped(model.backbone.layer2)
    transfer = dict(taps, connector=dict(type='ReviewConnector'), loss=dict(type='HCLLoss'))
    return build_distiller(
        **copy.deepcopy(models), teacher_ckpt=None, transfers=dict(review=transfer)
    )
