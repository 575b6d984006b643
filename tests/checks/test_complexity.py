"""Tests of counting FLOPs."""

from __future__ import annotations

from mmengine.model import BaseModel
from torch import Tensor, nn

from reviewkd_mm.checks.complexity import FEATURES, WHOLE, count_flops, count_parameters
from reviewkd_mm.models.recorders import Recorder
from tests.models.distillers.helpers import assert_same_state, state_of

SIZE = (6, 10)
PIXELS = 6 * 10
# 3x3 of 3 channels to 4, then 1x1 of 4 to 5.
FEATURE_FLOPS, HEAD_FLOPS = PIXELS * 27 * 4, PIXELS * 4 * 5


class Net(BaseModel):
    """Two convolutions; ``trouble`` is called between them."""

    def __init__(self, trouble: object = None) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.head = nn.Conv2d(4, 5, 1, bias=False)
        self.trouble = trouble

    def extract_feat(self, inputs: Tensor) -> Tensor:
        return self.backbone(inputs)

    def forward(self, inputs: Tensor, data_samples: object = None, mode: str = '') -> Tensor:
        features = self.extract_feat(inputs)
        if self.trouble is not None:
            self.trouble(features)
        return self.head(features)


def test_convolutions_counted_by_hand():
    assert count_flops(Net(), SIZE) == (FEATURE_FLOPS + HEAD_FLOPS, WHOLE)
    assert count_parameters(Net()) == 27 * 4 + 4 * 5


def test_a_whole_network_that_cannot_run_is_counted_without_its_head():
    def refuse(features: Tensor) -> None:
        raise LookupError('no head')

    assert count_flops(Net(refuse), SIZE) == (FEATURE_FLOPS, FEATURES)


def test_a_model_without_features_to_extract_is_counted_whole():
    class Head(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 4, 3, padding=1, bias=False)

        def forward(self, inputs: Tensor, data_samples: object, mode: str) -> Tensor:
            return self.head(inputs)

    assert count_flops(Head(), SIZE) == (FEATURE_FLOPS, WHOLE)


def test_what_cannot_run_at_all_says_why():
    class Broken(Net):
        def extract_feat(self, inputs: Tensor) -> Tensor:
            raise RuntimeError('out of order')

    flops, reason = count_flops(Broken(), SIZE)

    assert flops is None
    assert 'out of order' in reason


def test_the_model_is_left_as_it_was():
    net = Net().train()
    before = state_of(net)
    recorder = Recorder('backbone')
    recorder.attach(net)

    count_flops(net, SIZE)

    assert not recorder.recorded
    assert net.training
    assert net.backbone.weight.device.type == 'cpu'
    assert_same_state(state_of(net), before)
