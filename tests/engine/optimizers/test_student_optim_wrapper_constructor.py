"""The student's parameters get the rate and the decay that they have when it trains alone."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapperDict, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT
from mmengine.registry import DefaultScope
from torch import nn

from reviewkd_mm import cli
from reviewkd_mm.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    build_distiller,
    classifier,
    distiller_cfg,
    logits,
    train,
)

VIT = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=16)
SWIN = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 1, 1, 1])
CONVNEXT = dict(depths=[1, 1, 4, 1], channels=[4, 4, 8, 16])
BACKBONES = dict(
    resnet=classifier()['backbone'],
    convnext=dict(type='ConvNeXt', arch=CONVNEXT),
    swin=dict(type='SwinTransformer', arch=SWIN, img_size=32, patch_size=2, window_size=4),
    vit=dict(type='VisionTransformer', arch=VIT, img_size=32, patch_size=8),
    beit=dict(type='BEiTViT', arch=VIT, img_size=224, patch_size=32),
)
CHANNELS = dict(swin=64)
REVIEW = dict(connector=dict(type='ReviewConnector'), loss=dict(type='HCLLoss'))
FULL = 1e-3, 0.05
OPTIMIZER = dict(type='AdamW', lr=FULL[0], weight_decay=FULL[1])
OF_MMPRETRAIN = 'LearningRateDecayOptimWrapperConstructor'
OF_MMDET = 'mmdet.LearningRateDecayOptimizerConstructor'
OF_MMSEG = 'mmseg.LearningRateDecayOptimizerConstructor'
HALF = dict(decay_rate=0.5, num_layers=6)


def student(backbone: str) -> dict:
    head = dict(classifier()['head'], in_channels=CHANNELS.get(backbone, 16))
    neck = dict(type='GlobalAveragePooling') if backbone in ('resnet', 'swin') else None
    return classifier(backbone=dict(BACKBONES[backbone]), head=head, neck=neck)


def distiller(backbone: str) -> nn.Module:
    transfers = dict(kd=logits())
    if backbone in ('resnet', 'convnext'):
        tap = 'backbone.layer3' if backbone == 'resnet' else 'backbone.stages.3'
        transfers['fit'] = dict(student=tap, teacher='backbone.layer3', **REVIEW)
    return build_distiller(student=student(backbone), transfers=transfers)


def alone(backbone: str) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(student(backbone))


def rates(model: nn.Module, wrapper: dict) -> dict[str, tuple[float, float]]:
    """Build the optimizer; return rate and decay by the parameter's name."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optimizer = build_optim_wrapper(model, wrapper).optimizer
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for parameter in group['params']
    }


def adapt(wrapper: dict, model: dict | None = None) -> dict:
    """Return an optim_wrapper as ``tools/train.py`` gives it to the Runner."""
    cfg = Config(dict(default_scope='mmpretrain', model=model or distiller_cfg()))
    cfg.optim_wrapper = copy.deepcopy(wrapper)
    cli.adapt_optim_wrapper(cfg)
    return cfg.optim_wrapper


def of_student(given: dict) -> dict:
    return {
        name.removeprefix('student.'): rate
        for name, rate in given.items()
        if name.startswith('student.')
    }


def of_transfers(given: dict) -> dict:
    return {name: rate for name, rate in given.items() if name.startswith('transfers.')}


@pytest.mark.parametrize(
    ('constructor', 'backbone', 'paramwise'),
    [
        (OF_MMPRETRAIN, 'convnext', dict(layer_decay_rate=0.5)),
        (OF_MMPRETRAIN, 'swin', dict(layer_decay_rate=0.5, norm_decay_mult=0.0)),
        (
            OF_MMPRETRAIN,
            'vit',
            dict(layer_decay_rate=0.5, custom_keys={'.cls_token': dict(decay_mult=0.0)}),
        ),
        (OF_MMDET, 'convnext', dict(HALF, decay_type='layer_wise')),
        (OF_MMDET, 'convnext', dict(HALF, decay_type='stage_wise')),
        (OF_MMSEG, 'convnext', dict(HALF, decay_type='stage_wise')),
        (OF_MMSEG, 'beit', dict(HALF, decay_type='layer_wise_vit')),
        ('mmseg.LayerDecayOptimizerConstructor', 'beit', dict(layer_decay_rate=0.5, num_layers=3)),
    ],
)
def test_a_constructor_gives_the_student_what_it_gives_it_alone(constructor, backbone, paramwise):
    if constructor.startswith('mmseg'):
        pytest.importorskip('mmseg')
    wrapper = dict(optimizer=OPTIMIZER, constructor=constructor, paramwise_cfg=paramwise)
    expected = rates(alone(backbone), wrapper)

    actual = rates(distiller(backbone), adapt(wrapper))

    assert len({rate for rate, _ in expected.values()}) > 2
    assert of_student(actual) == expected
    assert set(of_transfers(actual).values()) <= {FULL}
    assert bool(of_transfers(actual)) == (backbone == 'convnext')


@pytest.mark.parametrize('constructor', [None, OF_MMPRETRAIN])
@pytest.mark.parametrize(
    'paramwise',
    [
        dict(bias_lr_mult=2.0, bias_decay_mult=0.5),
        dict(norm_decay_mult=0.0, flat_decay_mult=0.5),
        dict(dwconv_decay_mult=0.0, bypass_duplicate=True),
        dict(dcn_offset_lr_mult=0.1),
        dict(custom_keys={'backbone': dict(lr_mult=0.1), 'backbone.stages.0': dict(lr_mult=0.0)}),
        dict(custom_keys={'head': dict(lr_mult=10.0, decay_mult=0.0)}, norm_decay_mult=0.5),
    ],
)
def test_parameter_wise_settings_are_those_of_the_student_alone(constructor, paramwise):
    wrapper = dict(optimizer=OPTIMIZER, paramwise_cfg=paramwise)
    if constructor:
        wrapper['constructor'] = constructor
    model = distiller('convnext')

    actual = rates(model, adapt(wrapper))

    assert of_student(actual) == rates(alone('convnext'), wrapper)
    expected = rates(nn.ModuleDict(dict(transfers=model.transfers)), wrapper | DEFAULT)
    assert of_transfers(actual) == expected


DEFAULT = dict(constructor='DefaultOptimWrapperConstructor')


@pytest.mark.parametrize('constructor', [None, OF_MMPRETRAIN])
def test_keys_may_be_written_for_the_distiller(constructor):
    keys = {
        'student': dict(decay_mult=0.5),
        'backbone': dict(decay_mult=0.75),
        'student.backbone': dict(decay_mult=0.0),
        'transfers': dict(lr_mult=2.0),
        'connector.blocks': dict(lr_mult=3.0),
    }
    wrapper = dict(optimizer=OPTIMIZER, paramwise_cfg=dict(custom_keys=keys))
    if constructor:
        wrapper['constructor'] = constructor

    actual = rates(distiller('convnext'), adapt(wrapper))

    assert {actual[n][1] for n in actual if n.startswith('student.backbone')} == {0.0}
    assert {actual[n][1] for n in actual if n.startswith('student.head')} == {0.025}
    assert {rate for rate, _ in of_transfers(actual).values()} == {2e-3}


class Named(DefaultOptimWrapperConstructor):
    """Trains what it finds under one name, as a constructor of a user's own may."""

    def add_params(self, params: list, module: nn.Module, **kwargs) -> None:
        params += [
            dict(params=[parameter], lr=1.0 if name.startswith('backbone.') else 0.0)
            for name, parameter in module.named_parameters()
        ]


class Several(DefaultOptimWrapperConstructor):
    def __call__(self, model: nn.Module) -> OptimWrapperDict:
        return OptimWrapperDict(one=super().__call__(model))


def own(name: str) -> dict:
    return dict(optimizer=OPTIMIZER, constructor=name, paramwise_cfg=dict(any=True))


def test_a_constructor_of_ones_own_sees_the_student(monkeypatch):
    monkeypatch.setitem(ROOT.module_dict, 'Named', Named)

    actual = rates(distiller('resnet'), adapt(own('Named')))

    assert {rate for name, (rate, _) in actual.items() if 'student.backbone' in name} == {1.0}
    assert of_student(actual) == rates(alone('resnet'), own('Named'))
    assert set(of_transfers(actual).values()) == {FULL}


def test_one_that_is_registered_here_sees_the_distiller(monkeypatch):
    monkeypatch.setitem(OPTIM_WRAPPER_CONSTRUCTORS.module_dict, 'Named', Named)
    wrapper = own('reviewkd_mm.Named')

    assert adapt(wrapper) == wrapper
    assert adapt(adapt(own(OF_MMPRETRAIN))) == adapt(own(OF_MMPRETRAIN))


@pytest.mark.parametrize('constructor', [None, 'DefaultOptimWrapperConstructor', OF_MMPRETRAIN])
def test_a_network_alone_and_the_default_constructor_stay_as_they_are(constructor):
    wrapper = dict(optimizer=OPTIMIZER, constructor=constructor)
    model = classifier() if constructor == OF_MMPRETRAIN else None

    assert adapt(wrapper, model) == wrapper


def test_several_optimizers_are_refused(monkeypatch):
    monkeypatch.setitem(ROOT.module_dict, 'Several', Several)

    with pytest.raises(ValueError, match=r"student_constructor: .*single optimizer.*\['one'\]"):
        rates(distiller('resnet'), adapt(own('Several')))


def test_another_model_is_refused():
    wrapper = own('reviewkd_mm.StudentOptimWrapperConstructor')

    with pytest.raises(ValueError, match=r'optim_wrapper\.constructor=.* got a Linear'):
        rates(nn.Linear(1, 1), wrapper)


def test_layer_depths_are_right_where_nothing_hides_the_distiller():
    wrapper = own(OF_MMPRETRAIN) | dict(paramwise_cfg=dict(layer_decay_rate=0.5))

    actual = rates(distiller('convnext'), wrapper)

    assert of_student(actual) == rates(alone('convnext'), wrapper)
    assert set(of_transfers(actual).values()) == {FULL}


def test_a_constructor_that_was_given_the_names_of_the_distiller_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(ROOT.module_dict, 'Named', Named)

    with pytest.raises(ValueError, match=r"constructor='Named' goes by .*student_constructor='N"):
        train(distiller_cfg(), tmp_path, optim_wrapper=own('Named'), **NO_VALIDATION)


@pytest.mark.parametrize('hidden', [False, True])
def test_a_runner_trains_with_layer_wise_decay(tmp_path, hidden):
    wrapper = own(OF_MMPRETRAIN) | dict(paramwise_cfg=dict(layer_decay_rate=0.5))
    model = distiller_cfg(student=student('convnext'), transfers=dict(kd=logits()))
    wrapper = adapt(wrapper, model) if hidden else wrapper

    runner = train(model, tmp_path, optim_wrapper=wrapper, **NO_VALIDATION)

    lowest = min(group['lr'] for group in runner.optim_wrapper.optimizer.param_groups)
    assert lowest == FULL[0] * 0.5**7
    assert all(torch.isfinite(p).all() for p in runner.model.parameters())
