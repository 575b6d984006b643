"""A classifier without a head may be a student if its loss is its own."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from mmpretrain.models import BaseClassifier, ImageClassifier
from torch import Tensor, nn
from torch.nn import functional as F

from reviewkd_mm.registry import MODELS
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    NUM_CLASSES,
    PIXELS,
    assert_same_state,
    batch,
    build_distiller,
    classifier,
    distiller_cfg,
    train,
)

PREPROCESSOR = dict(PIXELS, type='mmpretrain.ClsDataPreprocessor')
TAPS = dict(student='model.0', teacher='backbone.layer1', loss=dict(type='HCLLoss'))
TRANSFERS = dict(review=dict(TAPS, connector=dict(type='ReviewConnector')))


class Whole(BaseClassifier):
    """One network of another library with its loss, under that library's names in a checkpoint."""

    def __init__(self, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor=data_preprocessor or dict(PREPROCESSOR))
        layers = nn.Conv2d(3, 8, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.model = nn.Sequential(*layers, nn.Linear(8, NUM_CLASSES))
        self._register_state_dict_hook(self.without_prefix)
        self._register_load_state_dict_pre_hook(self.with_prefix)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        return self.loss(inputs, data_samples) if mode == 'loss' else self.model(inputs)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        return self.model(inputs)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        target = torch.cat([sample.gt_label for sample in data_samples])
        return dict(loss=F.cross_entropy(self.model(inputs), target))

    @staticmethod
    def without_prefix(self, state_dict: dict, prefix: str, local_metadata: dict) -> dict:
        return OrderedDict(
            (name.replace(f'{prefix}model.', prefix, 1), v) for name, v in state_dict.items()
        )

    @staticmethod
    def with_prefix(state_dict: dict, prefix: str, *args) -> None:
        for name in [*state_dict]:
            value = state_dict.pop(name)
            state_dict[name.replace(prefix, f'{prefix}model.', 1)] = value


class OfHead(ImageClassifier):
    """A classifier under another name, whose loss is that of its head."""


@pytest.fixture(autouse=True)
def registered(monkeypatch) -> None:
    monkeypatch.setitem(MODELS.module_dict, 'Whole', Whole)
    monkeypatch.setitem(MODELS.module_dict, 'OfHead', OfHead)


def distiller():
    return build_distiller(student=dict(type='reviewkd_mm.Whole'), transfers=TRANSFERS)


def test_its_own_loss_trains_it():
    model = distiller().train()
    inputs, samples = batch()

    losses = model(inputs, samples, mode='loss')

    assert set(losses) == {'loss_cls', 'loss_review'}
    assert torch.equal(losses['loss_cls'], model.student.loss(inputs, samples)['loss'])


@pytest.mark.parametrize('kind', ['mmpretrain.ImageClassifier', 'reviewkd_mm.OfHead'])
def test_a_loss_of_a_head_that_is_not_there_is_refused(kind):
    student = classifier(type=kind, neck=None, head=None, data_preprocessor=PREPROCESSOR)

    with pytest.raises(ValueError, match=r"^student: the key 'head' is missing"):
        build_distiller(student=student)


@pytest.mark.parametrize('keep_vars', [False, True])
def test_its_weights_have_the_names_that_they_have_alone(keep_vars):
    model = distiller()

    state = model.state_dict(keep_vars=keep_vars)

    student = {n.removeprefix('student.'): v for n, v in state.items() if n.startswith('student.')}
    assert_same_state(student, dict(model.student.state_dict()))
    assert all(isinstance(v, nn.Parameter) == keep_vars for v in student.values())


def test_a_checkpoint_is_loaded_again(tmp_path):
    cfg = distiller_cfg(student=dict(type='reviewkd_mm.Whole'), transfers=TRANSFERS)
    runner = train(cfg, tmp_path, **NO_VALIDATION)

    resumed = train(cfg, tmp_path, resume=True, **NO_VALIDATION)

    assert resumed.epoch == 2
    assert_same_state(dict(resumed.model.state_dict()), dict(runner.model.state_dict()))
