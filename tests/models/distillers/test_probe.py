"""The probe finds the shortest forward that reaches all taps, or says what can be tapped."""

from __future__ import annotations

import pytest
import torch
from mmdet.models.backbones.csp_darknet import Focus
from mmengine.model import BaseModel
from torch import nn

from reviewkd_mm.models.distillers.probe import (
    dummy_images,
    evaluating,
    forward_features,
    forward_tensor,
    probe,
)
from reviewkd_mm.models.recorders import Recorder
from tests.models.distillers.helpers import (
    STAGES,
    assert_same_state,
    batch,
    build,
    build_distiller,
    classifier,
    logits,
    review,
    state_of,
)


class Picky(BaseModel):
    """A network that takes images of one size, whose second branch nothing calls."""

    def __init__(self, size: int, channels: int = 1) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(channels, 2, 1)
        self.unused = nn.ModuleDict(dict(left=nn.Conv2d(2, 2, 1), right=nn.Conv2d(2, 2, 1)))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        assert inputs.shape[-1] == self.size, f'expected images of {self.size} pixels'
        return self.conv(inputs)


def count_calls(module: nn.Module) -> list:
    calls = []
    module.register_forward_hook(lambda *args: calls.append(args))
    return calls


@pytest.mark.parametrize(
    ('taps', 'forward'),
    [
        (STAGES, forward_features),
        ('backbone.conv1', forward_features),
        ('head', forward_tensor),
        ([*STAGES, 'head.fc'], forward_tensor),
    ],
)
def test_shortest_forward_that_reaches_all_taps(taps, forward):
    assert probe(build(classifier()), {'student': Recorder(taps)}) is forward


def test_several_recorders_are_reached_together():
    model = build(classifier())
    recorders = {'a': Recorder(STAGES), 'b': Recorder('head')}

    assert probe(model, recorders) is forward_tensor
    assert [f.shape[1] for f in recorders['a'].features()] == [4, 8, 16, 16]
    assert recorders['b'].features()[0].shape == (1, 5, 1, 1)


def test_teachers_head_is_never_called_for_a_feature():
    distiller = build_distiller()
    calls = count_calls(distiller.teacher.head)

    distiller.loss(*batch())

    assert not calls


def test_teachers_head_is_called_once_for_logits_and_features():
    distiller = build_distiller(transfers=dict(review=review(), kd=logits()))
    head, stem = (count_calls(m) for m in (distiller.teacher.head, distiller.teacher.backbone))

    distiller.loss(*batch())

    assert len(head) == len(stem) == 1


def test_models_are_left_as_they_were():
    model = build(classifier()).train()
    model.backbone.layer1.eval()
    modes = {name: m.training for name, m in model.named_modules()}
    state = state_of(model)

    probe(model, {'student': Recorder(STAGES)})

    assert {name: m.training for name, m in model.named_modules()} == modes
    assert_same_state(state_of(model), state)


def test_modes_are_restored_after_an_error():
    model = build(classifier()).train()

    with pytest.raises(KeyError), evaluating(model):
        raise KeyError

    assert all(module.training for module in model.modules())


@pytest.mark.parametrize('size', [64, 224, 512])
def test_an_image_size_that_the_model_takes_is_found(size):
    recorder = Recorder('conv')

    probe(Picky(size), {'student': recorder})

    assert recorder.features()[0].shape == (1, 2, size, size)


def test_dummy_images_fit_the_model():
    images = dummy_images(Picky(64, channels=5).double(), batch_size=2, size=32)

    assert images.shape == (2, 5, 32, 32)
    assert images.dtype == torch.float64
    assert dummy_images(nn.Identity()).shape == (1, 3, 64, 64)


def test_dummy_images_of_a_stem_that_turns_pixels_into_channels():
    stem = Focus(3, 8)

    assert stem(dummy_images(stem)).shape == (1, 8, 32, 32)


def test_a_model_that_takes_no_dummy_image_is_named():
    with pytest.raises(RuntimeError) as caught:
        probe(Picky(100), {'transfers.review.teacher': Recorder('conv')})

    assert str(caught.value).startswith(
        'transfers.review.teacher: Picky failed on a dummy image: expected images of 100 pixels'
    )


def test_a_tap_beyond_the_neck_of_a_model_that_needs_samples_is_told_so():
    class TwoStage(Picky):
        def extract_feat(self, inputs):
            return self.conv(inputs)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return [self.unused.left(self.conv(inputs)) for _ in data_samples]

    with pytest.raises(RuntimeError) as caught:
        probe(TwoStage(64), {'transfers.a.teacher': Recorder(['conv', 'unused.left'])})

    message = str(caught.value)
    assert message.startswith("transfers.a.teacher: tap 'unused.left' recorded nothing")
    assert 'TwoStage runs no further than backbone and neck on an image without data' in message


@pytest.mark.parametrize('key', ['transfers.a.student', 'transfers.b.teacher'])
def test_what_a_tap_reads_is_refused_with_its_key_and_what_gives_maps(key):
    """Stages of MMPretrain's Swin give their tokens with the sides of the map."""

    class Stage(nn.Module):
        def forward(self, x):
            return x, (4, 4)

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage, self.out_indices = Stage(), (0,)

    class Network(Picky):
        def __init__(self) -> None:
            super().__init__(64)
            self.backbone = Backbone()

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.backbone.stage(self.conv(inputs))

    with pytest.raises(ValueError, match=rf'^{key}: ') as caught:
        probe(Network(), {'other': Recorder('conv'), key: Recorder('backbone.stage')})

    assert str(caught.value) == (
        f"{key}: tap 'backbone.stage' reads a value with a part of type int; expected a tensor, "
        "or a tuple, list or dict of tensors; for maps tap 'backbone' with the stages in its "
        'out_indices'
    )


def test_a_head_that_takes_other_channels_is_refused():
    model = classifier()
    model['head']['in_channels'] += 1

    with pytest.raises(ValueError, match=r'^student\.head\.in_channels=17: expected .*16'):
        build_distiller(student=model)


def test_an_unreachable_tap_names_the_children():
    recorders = {
        'transfers.a.student': Recorder('conv'),
        'transfers.b.student': Recorder('unused'),
    }

    with pytest.raises(RuntimeError) as caught:
        probe(Picky(64), recorders)

    message = str(caught.value)
    assert message.startswith("transfers.b.student: tap 'unused' recorded nothing")
    assert "'unused.left', 'unused.right'" in message
    assert 'transfers.a' not in message


def test_a_wrong_path_names_the_nearest():
    with pytest.raises(ValueError, match=r"transfers\.b\.student: .*'cnv'.*did you mean 'conv'"):
        probe(Picky(64), {'transfers.b.student': Recorder('cnv')})


def test_a_call_that_never_comes_is_an_error():
    recorder = Recorder(dict(type='ModuleOutputs', source='conv', call=1))

    with pytest.raises(RuntimeError, match=r"key: tap 'conv' asks for call=1.*called 1 times"):
        probe(Picky(64), {'key': recorder})
