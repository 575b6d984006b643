"""ModuleInputs: what a module is given, by position or by keyword."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reviewkd_mm.models.recorders import ModuleInputs, Recorder
from reviewkd_mm.registry import MODELS
from tests.models.recorders.toys import Classifier, Twice, images
from tests.numbers import assert_close64


class Head(nn.Module):
    """A head with inputs of several kinds."""

    def forward(self, *args: object, **kwargs: object) -> None:
        return None


class Calls(nn.Module):
    """Call a head with given inputs."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()
        self.head = Head()
        self.inputs = args, kwargs

    def forward(self) -> None:
        args, kwargs = self.inputs
        self.head(*args, **kwargs)


def record(model: nn.Module, tap: dict, *inputs: Tensor) -> list[Tensor]:
    recorder = Recorder({'type': 'ModuleInputs', **tap})
    recorder.attach(model)
    model(*inputs)
    return recorder.features()


def test_smoke():
    tap = MODELS.build({'type': 'ModuleInputs', 'source': 'neck', 'call': 0})
    assert isinstance(tap, ModuleInputs)
    assert repr(tap) == "ModuleInputs('neck', call=0)"


@pytest.mark.parametrize('inplace', [False, True])
def test_the_input_of_a_relu_is_the_feature_before_it(inplace):
    model = Classifier(inplace=inplace).eval()
    block = model.backbone.layer1[1]
    (feature,) = record(model, {'source': 'backbone.layer1.-1.relu'}, images())
    x = model.backbone.layer1[0](images())
    assert_close64(feature, x + block.bn(block.conv(x)))
    assert feature.min() < 0


@pytest.mark.parametrize(('call', 'power'), [(0, 0), (1, 1), (-1, 1), (-2, 0)])
def test_call(call, power):
    model = Twice(nn.Conv2d(4, 4, 1))
    (feature,) = record(model, {'source': 'module', 'call': call}, images())
    assert_close64(feature, model.module(images()) if power else images())


def test_vectors_count_as_maps_of_one_pixel():
    (feature,) = record(Classifier(), {'source': 'head'}, images())
    assert feature.shape == (2, 4, 1, 1)


def test_inputs_by_position_and_keyword_are_flattened_in_order():
    a, b, c = (torch.full((1, 1, 1, 1), float(i)) for i in range(3))
    features = record(Calls(a, x=[b], y={'z': c}), {'source': 'head'})
    assert [int(x) for x in features] == [0, 1, 2]


def test_inputs_that_are_no_features_are_left_out():
    a, b = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    features = record(Calls(a, None, 'same', x=b, mask=None, scale=2), {'source': 'head'})
    assert [int(x) for x in features] == [0, 1]
