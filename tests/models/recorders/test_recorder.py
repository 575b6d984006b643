"""Recorder: its taps, its life cycle and its errors."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import ConfigDict
from torch import Tensor, nn

from reviewkd_mm.models.recorders import ModuleInputs, ModuleOutputs, Recorder
from tests.models.recorders.toys import Classifier, Twice, images
from tests.numbers import assert_close64


def test_smoke():
    model, recorder = Classifier(), Recorder(['backbone.layer1', 'backbone.layer2'])
    recorder.attach(model)
    model(images())
    shallow, deep = recorder.features()
    assert shallow.shape == deep.shape == (2, 4, 6, 6)
    recorder.close()


@pytest.mark.parametrize(
    ('taps', 'expected'),
    [
        ('neck', ["ModuleOutputs('neck', call=-1)"]),
        (ModuleInputs('neck'), ["ModuleInputs('neck', call=-1)"]),
        ({'type': 'ModuleInputs', 'source': 'neck'}, ["ModuleInputs('neck', call=-1)"]),
        ({'type': ModuleOutputs, 'source': 'neck'}, ["ModuleOutputs('neck', call=-1)"]),
        (ConfigDict(type='ModuleInputs', source='neck'), ["ModuleInputs('neck', call=-1)"]),
        (
            ('neck', {'type': 'reviewkd_mm.ModuleInputs', 'source': 'head', 'call': 0}),
            ["ModuleOutputs('neck', call=-1)", "ModuleInputs('head', call=0)"],
        ),
    ],
)
def test_taps(taps, expected):
    assert [repr(tap) for tap in Recorder(taps).taps] == expected


def test_features_come_in_the_order_of_the_taps():
    model = Classifier().eval()
    recorder = Recorder(['head', 'backbone', 'neck'])
    recorder.attach(model)
    output = model(images())
    shallow, deep = model.backbone(images())
    expected = [output[:, :, None, None], shallow, deep, model.neck(deep)[:, :, None, None]]
    assert_close64(recorder.features(), expected)


def test_attaching_twice_records_every_call_once():
    model = Twice(nn.Conv2d(4, 4, 1))
    recorder = Recorder({'type': 'ModuleOutputs', 'source': 'module', 'call': -2})
    recorder.attach(model)
    recorder.attach(model)
    model(images())
    assert_close64(recorder.features(), [model.module(images())])


def test_two_recorders_share_a_module():
    model, first, second = Classifier(), Recorder('neck'), Recorder('neck')
    for recorder in (first, second):
        recorder.attach(model)
    model(images())
    first.close()
    assert second.recorded
    assert_close64(second.features(), [model.neck(model.backbone(images())[1])[..., None, None]])


def test_clear_forgets():
    model, recorder = Classifier(), Recorder('neck')
    recorder.attach(model)
    model(images())
    recorder.clear()
    assert not recorder.recorded
    with pytest.raises(RuntimeError, match="tap 'neck' recorded nothing"):
        recorder.features()


def test_close_forgets_and_removes_the_hooks_and_attach_starts_again():
    model, recorder = Classifier(), Recorder(['neck', {'type': 'ModuleInputs', 'source': 'head'}])
    recorder.attach(model)
    model(images())
    recorder.close()
    recorder.close()
    assert not recorder.recorded
    assert not model.neck._forward_hooks
    assert not model.head._forward_pre_hooks
    recorder.attach(model)
    model(images())
    assert recorder.recorded


class Tokens(nn.Module):
    """Give tokens (N, L, C), as a transformer's layer does."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class Transformer(nn.Module):
    """A layer inside of a module that has MMPretrain's settings."""

    OUT_TYPES = ('raw', 'featmap')

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Tokens()])
        self.out_indices = (0,)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x)


@pytest.mark.parametrize(
    ('tap', 'expected'),
    [
        (
            'backbone.layers.0',
            "tap 'backbone.layers.0' gives (2, 36, 4); for maps tap 'backbone' with the stages in "
            "its out_indices and out_type='featmap'",
        ),
        ('backbone', "tap 'backbone' gives (2, 36, 4); for maps tap 'backbone' with out_type='"),
    ],
)
def test_tokens_are_named_with_what_gives_maps(tap, expected):
    model, recorder = Classifier(), Recorder([tap])
    model.backbone = Transformer()
    model.forward = model.backbone.__call__
    recorder.attach(model)
    model(images())
    assert recorder.describe_no_map().startswith(expected)


def test_maps_and_vectors_are_no_tokens():
    model, recorder = Classifier(), Recorder(['backbone', 'neck'])
    recorder.attach(model)
    model(images())
    assert recorder.describe_no_map() == ''


def test_calls_are_ignored_while_paused():
    model, recorder = Classifier(), Recorder('neck')
    recorder.attach(model)
    model(images())
    (before,) = recorder.features()
    recorder.pause()
    model(images(seed=1))
    assert_close64(recorder.features(), [before])


def test_recording_starts_afresh_and_ends_with_the_block():
    model = Twice(nn.Conv2d(4, 4, 1), calls=1)
    recorder = Recorder({'type': 'ModuleOutputs', 'source': 'module', 'call': 0})
    for seed in (0, 1):
        with recorder.recording(model):
            model(images(seed=seed))
        model(images(seed=2))
        assert_close64(recorder.features(), [model.module(images(seed=seed))])


def test_recording_ends_with_an_error_too():
    model, recorder = Classifier(), Recorder('neck')
    with pytest.raises(RuntimeError), recorder.recording(model):
        model(torch.zeros(1, 3, 6, 6))
    model(images())
    assert not recorder.recorded


def test_a_module_that_is_called_by_forward_cannot_be_tapped():
    class Detector(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            return self.backbone.forward(x)[-1]

    model, recorder = Detector(), Recorder('backbone')
    recorder.attach(model)
    model(images())
    children = r"those that are called can be tapped: 'backbone\.layer1', 'backbone\.layer2'"
    with pytest.raises(RuntimeError, match=children):
        recorder.features()


def test_a_module_that_is_not_reached_and_has_no_children():
    model = nn.Sequential(nn.ReLU())
    model.unused = nn.ReLU()
    model.forward = model[0].forward
    recorder = Recorder('unused')
    recorder.attach(model)
    model(images())
    with pytest.raises(RuntimeError, match=r'no forward reached its module$'):
        recorder.features()


def test_a_wrong_path_fails_when_the_recorder_is_attached():
    with pytest.raises(ValueError, match="did you mean 'neck'"):
        Recorder('nek').attach(Classifier())


@pytest.mark.parametrize('taps', [[], ()])
def test_no_tap_is_refused(taps):
    with pytest.raises(ValueError, match='at least one tap'):
        Recorder(taps)


@pytest.mark.parametrize('taps', [None, 3, {'source': 'neck'}, [['neck']]])
def test_what_is_no_tap_is_refused(taps):
    with pytest.raises(ValueError, match='expected a module path or a dict'):
        Recorder(taps)


@pytest.mark.parametrize('kind', ['ModuleInput', 'HCLLoss', 'reviewkd_mm.ModuleInput', nn.ReLU])
def test_a_type_that_is_no_tap_is_refused_with_those_that_are(kind):
    tap = {'type': kind} if kind in ('HCLLoss', nn.ReLU) else {'type': kind, 'source': 'neck'}
    with pytest.raises(ValueError, match=r"type=.* is no tap; .*'ModuleInputs'"):
        Recorder(tap)
