"""ModuleOutputs: what a module returns, at which call, in which layout."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from reviewkd_mm.models.recorders import ModuleOutputs, Recorder
from reviewkd_mm.registry import MODELS
from tests.models.recorders.toys import Classifier, Twice, images
from tests.numbers import assert_close64


class Returns(nn.Module):
    """Return a structure of tensors."""

    def __init__(self, structure: object) -> None:
        super().__init__()
        self.structure = structure

    def forward(self, x: Tensor) -> object:
        return self.structure


def record(model: nn.Module, *taps: str | dict) -> list[Tensor]:
    recorder = Recorder(list(taps))
    recorder.attach(model)
    model(images())
    return recorder.features()


def test_smoke():
    tap = MODELS.build({'type': 'ModuleOutputs', 'source': 'neck'})
    assert isinstance(tap, ModuleOutputs)
    assert repr(tap) == "ModuleOutputs('neck', call=-1)"


def test_value_is_what_the_module_returns():
    model = Classifier().eval()
    shallow, deep = model.backbone(images())
    features = record(model, 'backbone.layer1', 'backbone.layer2')
    assert_close64(features, [shallow, deep])


def test_tuples_are_flattened_in_order():
    model = Classifier().eval()
    features = record(model, 'backbone')
    assert_close64(features, list(model.backbone(images())))


def test_nested_tuples_lists_and_dicts_are_flattened_in_order():
    a, b, c, d = (torch.full((1, 1, 2, 2), float(i)) for i in range(4))
    nested = (a, [b], OrderedDict(z=c, a=(d,)))
    assert [int(x[0, 0, 0, 0]) for x in record(nn.Sequential(Returns(nested)), '0')] == [
        0,
        1,
        2,
        3,
    ]


def test_vectors_count_as_maps_of_one_pixel():
    model = Classifier().eval()
    (feature,) = record(model, 'neck')
    assert feature.shape == (2, 4, 1, 1)
    assert_close64(feature.flatten(1), model.neck(model.backbone(images())[1]))


def test_other_dimensions_are_left_alone():
    (tokens,) = record(nn.Sequential(Returns(torch.zeros(2, 5, 8))), '0')
    assert tokens.shape == (2, 5, 8)


@pytest.mark.parametrize(('call', 'power'), [(0, 1), (1, 2), (2, 3), (-1, 3), (-2, 2), (-3, 1)])
def test_call(call, power):
    model = Twice(nn.Conv2d(4, 4, 1), calls=3)
    expected = images()
    for _ in range(power):
        expected = model.module(expected)
    (feature,) = record(model, {'type': 'ModuleOutputs', 'source': 'module', 'call': call})
    assert_close64(feature, expected)


def test_the_last_call_is_the_default():
    model = Twice(nn.Conv2d(4, 4, 1))
    (feature,) = record(model, 'module')
    assert_close64(feature, model(images()))


@pytest.mark.parametrize('calls', [1, 3])
def test_all_calls_in_order(calls):
    model = Twice(nn.Conv2d(4, 4, 1), calls)
    x, expected = images(), []
    for _ in range(calls):
        x = model.module(x)
        expected.append(x)
    tap = {'type': 'ModuleOutputs', 'source': 'module', 'call': 'all'}
    for _ in range(2):
        assert_close64(record(model, tap), expected)


@pytest.mark.parametrize(
    ('call', 'calls', 'expected'),
    [
        (-1, 1, ['module']),
        (0, 1, ['module']),
        (-1, 2, ['module call=-1 of 2']),
        ('all', 1, ['module']),
        ('all', 2, ['module call=0 of 2', 'module call=1 of 2']),
    ],
)
def test_names_tell_of_several_calls(call, calls, expected):
    recorder = Recorder(ModuleOutputs('module', call=call))
    recorder.attach(model := Twice(nn.ReLU(), calls))
    model(images())
    assert recorder.names() == expected


def test_names_of_several_tensors_of_several_calls():
    model = Twice(Returns((torch.zeros(1, 1), torch.ones(1, 1))))
    recorder = Recorder(ModuleOutputs('module', call='all'))
    recorder.attach(model)
    model(images())
    assert recorder.names() == [
        'module[0] call=0 of 2',
        'module[1] call=0 of 2',
        'module[0] call=1 of 2',
        'module[1] call=1 of 2',
    ]
    assert [float(feature) for feature in recorder.features()] == [0, 1, 0, 1]


def test_channels_last_are_moved_to_the_front():
    nhwc, vector = torch.rand(2, 5, 6, 3), torch.rand(2, 4)
    tap = {'type': 'ModuleOutputs', 'source': '0', 'layout': 'NHWC'}
    features = record(nn.Sequential(Returns((nhwc, vector))), tap)
    assert_close64(features, [nhwc.movedim(-1, 1), vector[:, :, None, None]])


@pytest.mark.parametrize('layout', ['nhwc', 'NHC', None, 1])
def test_what_is_no_layout(layout):
    with pytest.raises(ValueError, match=r"layout=.*: expected 'NCHW' or 'NHWC'"):
        ModuleOutputs('neck', layout=layout)


@pytest.mark.parametrize('call', [2, -3])
def test_a_call_that_was_not_made(call):
    tap = {'type': 'ModuleOutputs', 'source': 'module', 'call': call}
    with pytest.raises(RuntimeError, match=rf"'module' asks for call={call}, .* called 2 times"):
        record(Twice(nn.ReLU()), tap)


@pytest.mark.parametrize('call', ['last', 1.0, None, True])
def test_what_is_no_call(call):
    with pytest.raises(ValueError, match=r'call=.*expected the index of a call'):
        ModuleOutputs('neck', call=call)


@pytest.mark.parametrize('output', ['text', 3, (torch.zeros(1, 1), None)])
def test_what_is_no_tensor(output):
    with pytest.raises(ValueError, match=r"tap '0' reads a .*expected a tensor"):
        record(nn.Sequential(Returns(output)), '0')


def test_what_is_no_tensor_does_not_stop_the_model():
    model, recorder = nn.Sequential(Returns('text')), Recorder('0')
    with recorder.recording(model):
        assert model(images()) == 'text'
    assert recorder.recorded


def test_only_the_call_that_is_asked_for_has_to_be_tensors():
    class Counts(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor | str:
            self.calls += 1
            return x if self.calls == 1 else 'text'

    class CallsTwice(Twice):
        def forward(self, x: Tensor) -> None:
            self.module(x)
            self.module(x)

    (feature,) = record(
        CallsTwice(Counts()), {'type': 'ModuleOutputs', 'source': 'module', 'call': 0}
    )
    assert_close64(feature, images())
