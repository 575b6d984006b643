"""find_module: paths, negative indices and errors that name what there is."""

from __future__ import annotations

import pytest
from torch import nn

from reviewkd_mm.models.recorders import find_module
from reviewkd_mm.models.recorders.module_path import ancestry
from tests.models.recorders.toys import Classifier


@pytest.mark.parametrize('depth', [1, 3])
def test_negative_indices_serve_every_depth(depth):
    model = Classifier(depth)
    assert find_module(model, 'backbone.layer1.-1.relu') is model.backbone.layer1[depth - 1].relu
    assert find_module(model, f'backbone.layer1.-{depth}') is model.backbone.layer1[0]


def test_names_and_positive_indices():
    model = Classifier()
    assert find_module(model, 'neck') is model.neck
    assert find_module(model, 'backbone.layer2.1.bn') is model.backbone.layer2[1].bn


def test_module_list_and_named_sequential():
    model = nn.Module()
    model.heads = nn.ModuleList([nn.ReLU(), nn.Identity()])
    model.stem = nn.Sequential()
    model.stem.add_module('conv', nn.Conv2d(1, 1, 1))
    model.stem.add_module('act', nn.ReLU())
    assert find_module(model, 'heads.-2') is model.heads[0]
    assert find_module(model, 'stem.act') is find_module(model, 'stem.-1') is model.stem[1]


def test_a_module_with_two_names_is_found_by_both():
    model = nn.Module()
    model.first = model.second = nn.ReLU()
    block = nn.ReLU()
    model.shared = nn.Sequential(block, nn.Identity(), block)
    assert find_module(model, 'second') is model.first
    assert find_module(model, 'shared.2') is find_module(model, 'shared.-1') is block


def test_ancestry_runs_from_the_model_to_the_module():
    model = Classifier()
    layer1 = model.backbone.layer1
    expected = [model, model.backbone, layer1, layer1[1], layer1[1].relu]
    assert ancestry(model, 'backbone.layer1.-1.relu') == expected


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('nek', r"no module 'nek': Classifier has no child 'nek'; did you mean 'neck'\?"),
        ('backbone.layer3', r"'backbone' \(Backbone\).*did you mean 'backbone\.layer[12]'"),
        ('backbone.layer1.-1.rule', r"did you mean 'backbone\.layer1\.-1\.relu'"),
        ('backbone.layer1.2', "'backbone.layer1' .* it has 2 children: 0 to 1, or -1"),
        ('backbone.layer1.-3', 'it has 2 children: 0 to 1, or -1 for the last'),
        ('backbone.layer1.first', 'it has 2 children: 0 to 1, or -1 for the last'),
        ('backbone.-1', r"choose from 'backbone\.layer1', 'backbone\.layer2'|did you mean"),
        ('head.weight', r"'head' \(Linear\) has no child 'weight'; it has no children"),
        ('backbone..layer1', "has no child ''"),
        ('neck.', "has no child ''"),
    ],
)
def test_wrong_path(path, message):
    with pytest.raises(ValueError, match=message):
        find_module(Classifier(), path)


@pytest.mark.parametrize('path', ['', None, 3])
def test_what_is_no_path(path):
    with pytest.raises(ValueError, match='expected the path of a module'):
        find_module(Classifier(), path)
