"""Registries: a child for every one of MMEngine's, and names found through the scopes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import mmengine.model
import pytest
import torch
from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import DefaultScope

from reviewkd_mm import registry as ours
from reviewkd_mm.models import HCLLoss
from reviewkd_mm.registry import MODELS, SCOPE, TRANSFORMS

ROOTS = {
    name: value
    for name, value in vars(root).items()
    if isinstance(value, root.Registry) and value.parent is None
}


@pytest.fixture(autouse=True)
def _no_default_scope(monkeypatch):
    """Leave out the default scopes of what ran before."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())


@contextmanager
def scopes(*names: str) -> Iterator[None]:
    """Enter default scopes, the last one innermost."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(DefaultScope.overwrite_default_scope(name))
        yield


@pytest.mark.parametrize('name', ROOTS)
def test_every_root_registry_has_a_child(name):
    child = getattr(ours, name)
    assert child.parent is ROOTS[name]
    assert child.scope == SCOPE
    assert ROOTS[name].children[SCOPE] is child


@pytest.mark.parametrize('name', ROOTS)
def test_the_locations_of_every_registry_can_be_imported(name):
    getattr(ours, name).import_from_location()


@pytest.mark.parametrize(
    ('registry', 'name'),
    [
        ('MODELS', 'Distiller'),
        ('MODELS', 'ReviewConnector'),
        ('MODELS', 'ABF'),
        ('MODELS', 'HCLLoss'),
        ('MODELS', 'KLDivergence'),
        ('MODELS', 'ModuleOutputs'),
        ('MODELS', 'ModuleInputs'),
        ('MODELS', 'CIFARResNet'),
        ('MODELS', 'CIFARWideResNet'),
        ('DATASETS', 'CIFAR100'),
    ],
)
def test_what_the_package_offers_is_found_by_its_bare_and_its_full_name(registry, name):
    found = getattr(ours, registry).get(name)
    assert found.__module__.startswith('reviewkd_mm.')
    assert getattr(ours, registry).get(f'reviewkd_mm.{name}') is found
    assert ROOTS[registry].get(f'reviewkd_mm.{name}') is found


@pytest.mark.parametrize('enclosing', ['mmpretrain', 'mmdet'])
def test_our_own_name_comes_first(enclosing):
    from reviewkd_mm.datasets import CIFAR100

    with scopes(enclosing, SCOPE):
        assert ours.DATASETS.get('CIFAR100') is CIFAR100
        assert MODELS.build({'type': 'HCLLoss'}).__class__ is HCLLoss


@pytest.mark.parametrize(
    ('enclosing', 'bare'), [('mmpretrain', 'ImageClassifier'), ('mmdet', 'RetinaNet')]
)
def test_a_stamped_name_is_found_in_the_enclosing_scope(enclosing, bare):
    with scopes(enclosing, SCOPE):
        assert MODELS.get(bare).__module__.startswith(f'{enclosing}.')
    with scopes(enclosing):
        assert MODELS.get(bare).__module__.startswith(f'{enclosing}.')


@pytest.mark.parametrize('registry', [root.MODELS, MODELS], ids=['root', 'ours'])
def test_a_stamped_config_builds_bare_names_of_the_enclosing_scope_at_every_depth(registry):
    cfg = Config(
        {
            'model': {
                '_scope_': SCOPE,
                'type': 'ImageClassifier',
                'backbone': {'type': 'CIFARResNet', 'depth': 8},
                'neck': {'type': 'GlobalAveragePooling'},
                'head': {'type': 'LinearClsHead', 'num_classes': 3, 'in_channels': 64},
            }
        }
    )
    with scopes('mmpretrain'):
        model = registry.build(cfg.model)
    assert type(model).__module__.startswith('mmpretrain.')
    assert type(model.backbone).__module__.startswith('reviewkd_mm.')
    assert type(model.head).__module__.startswith('mmpretrain.')


def test_the_enclosing_scope_comes_before_mmengine():
    """MMCV registers a RandomFlip too, and registers it with MMEngine."""
    with scopes(SCOPE):
        assert TRANSFORMS.get('RandomFlip').__module__.startswith('mmcv.')
    with scopes('mmdet', SCOPE):
        assert TRANSFORMS.get('RandomFlip').__module__.startswith('mmdet.')
    with scopes('mmdet'):
        flip = TRANSFORMS.build({'_scope_': SCOPE, 'type': 'RandomFlip', 'prob': 0.5})
    assert type(flip).__module__.startswith('mmdet.')


def test_the_innermost_enclosing_scope_is_searched():
    with scopes('mmdet', 'mmpretrain', SCOPE):
        assert MODELS.get('ResNet').__module__.startswith('mmpretrain.')
    with scopes('mmpretrain', 'mmdet', SCOPE, SCOPE):
        assert MODELS.get('ResNet').__module__.startswith('mmdet.')


def test_explicit_scopes_are_honoured_in_every_scope():
    for enclosing in ((), (SCOPE,), ('mmdet', SCOPE), ('mmpretrain',)):
        with scopes(*enclosing):
            assert MODELS.get('mmdet.ResNet').__module__.startswith('mmdet.')
            assert MODELS.get('mmpretrain.ResNet').__module__.startswith('mmpretrain.')
            assert MODELS.get('reviewkd_mm.HCLLoss') is HCLLoss


@pytest.mark.parametrize('enclosing', [(), (SCOPE,), ('mmpretrain', SCOPE), ('mmengine', SCOPE)])
def test_names_of_mmengine_are_found_in_every_scope(enclosing):
    with scopes(*enclosing):
        assert ours.OPTIMIZERS.get('SGD') is torch.optim.SGD
        assert MODELS.get('mmengine.model.BaseModel') is mmengine.model.BaseModel


def test_an_enclosing_scope_without_registries_is_passed_over():
    with scopes('no_such_package', SCOPE):
        assert ours.OPTIMIZERS.get('SGD') is torch.optim.SGD
        assert MODELS.get('HCLLoss') is HCLLoss


@pytest.mark.parametrize('enclosing', [(), (SCOPE,), ('mmpretrain', SCOPE)])
@pytest.mark.parametrize('name', ['NoSuchLoss', 'reviewkd_mm.NoSuchLoss', 'mmdet.NoSuchLoss'])
def test_an_unknown_name(enclosing, name):
    with scopes(*enclosing):
        assert name not in MODELS
        with pytest.raises(KeyError, match=f'{name} is not in the .* registry'):
            MODELS.build({'type': name})
