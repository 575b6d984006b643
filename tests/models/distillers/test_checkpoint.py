"""Strict loading of one model from a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from reviewkd_mm.models.distillers.checkpoint import (
    check_checkpoint_exists,
    describe_mismatch,
    load_weights,
    model_weights,
    read_checkpoint,
)
from tests.models.distillers.helpers import assert_same_state, build_distiller

KEY = 'teacher_ckpt'


def network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, classes))


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return dict(network().state_dict())


def save(content: object, folder: Path) -> str:
    path = str(folder / 'weights.pth')
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    'wrap',
    [
        lambda weights: weights,
        lambda weights: dict(state_dict=weights, meta=dict(epoch=3)),
        lambda weights: {f'module.{name}': v for name, v in weights.items()},
        lambda weights: {f'student.{name}': v for name, v in weights.items()},
        lambda weights: dict(
            state_dict={
                'module.transfers.kd.connector.weight': torch.ones(1),
                **{f'module.student.{name}': v for name, v in weights.items()},
            }
        ),
    ],
    ids=['bare', 'mmengine', 'parallel', 'distiller', 'parallel distiller'],
)
def test_layouts_of_a_checkpoint(tmp_path, weights, wrap):
    model = network()

    load_weights(model, save(wrap(weights), tmp_path), KEY)

    assert_same_state(dict(model.state_dict()), weights)


def test_ema_copy_in_a_checkpoint_is_ignored(weights):
    saved = dict(state_dict=weights, ema_state_dict={'module.0.weight': torch.ones(1)})

    assert model_weights(saved) == weights


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (lambda w: w.pop('0.weight'), r'1 missing \(0\.weight\)'),
        (lambda w: w.update(extra=torch.ones(1)), r'1 unexpected \(extra\)'),
        (lambda w: w.update({'2.weight': torch.ones(9, 4)}), r'2\.weight.*\[9, 4\].*\[3, 4\]'),
        (lambda w: w.clear(), r'8 missing \(0\.bias'),
    ],
)
def test_what_does_not_fit_is_an_error(tmp_path, weights, change, problem):
    change(weights)
    path = save(dict(state_dict=weights), tmp_path)

    with pytest.raises(RuntimeError, match=rf"teacher_ckpt='{path}' does not fit Seq.*{problem}"):
        load_weights(network(), path, KEY)


def test_all_problems_are_in_one_message(tmp_path, weights):
    del weights['0.bias']
    weights.update({'extra': torch.ones(1), '2.bias': torch.ones(9)})

    with pytest.raises(RuntimeError, match=r'2\.bias.*\[9\]'):
        load_weights(network(), save(weights, tmp_path), KEY)


def backbone(blocks: int, width: int = 2) -> nn.Module:
    """Two stages of some blocks, each a convolution with its BatchNorm."""
    return nn.ModuleDict(
        {
            stage: nn.Sequential(
                *(
                    nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))
                    for _ in range(blocks)
                )
            )
            for stage in ('layer1', 'layer2')
        }
    )


@pytest.mark.parametrize(
    ('model', 'saved', 'problem'),
    [
        (
            backbone(1),
            backbone(4),
            r'42 unexpected \(.*, …\) in layer1\.1, .*, layer2\.1, layer2\.2, layer2\.3$',
        ),
        (backbone(9), backbone(1), r'96 missing \(.*, …\) in layer1, layer2$'),
        (
            backbone(1, width=3),
            backbone(1),
            r'12 of another shape \(layer1\.0\.0\.weight is \[2, 2, 1, 1\], here \[3, 3, 1, 1\], '
            r'.*, …\) in layer1\.0\.0, layer1\.0\.1, layer2\.0\.0, layer2\.0\.1$',
        ),
        (
            nn.Sequential(*backbone(1).values()),
            backbone(1),
            r'12 missing \(.*, …\) in 0\.0\.0, 0\.0\.1, .*; 14 unexpected \(.*\) in layer1',
        ),
    ],
    ids=['deeper', 'shallower', 'wider', 'another'],
)
def test_layers_of_another_architecture_are_named(tmp_path, model, saved, problem):
    with pytest.raises(RuntimeError, match=problem):
        load_weights(model, save(saved.state_dict(), tmp_path), KEY)


def test_a_missing_counter_of_batches_is_no_problem(tmp_path, weights):
    del weights['1.num_batches_tracked']

    load_weights(network(), save(weights, tmp_path), KEY)


def test_patterns_allow_another_head(tmp_path, weights):
    model = network(classes=9)
    weights['2.scale'] = torch.ones(1)

    load_weights(model, save(weights, tmp_path), KEY, allow_mismatch=['2.*'])

    assert torch.equal(model[0].weight, weights['0.weight'])
    assert model[2].weight.shape == (9, 4)


def test_patterns_do_not_keep_what_fits_from_loading(tmp_path, weights):
    model = network()

    load_weights(model, save(weights, tmp_path), KEY, allow_mismatch=['*'])

    assert_same_state(dict(model.state_dict()), weights)


def test_a_missing_file_names_the_nearest(tmp_path):
    path = str(tmp_path / 'nowhere.pth')

    torch.save({}, tmp_path / 'somewhere.pth')
    message = rf"teacher_ckpt='{path}': there is no such file; did you mean 'somewhere\.pth'"
    with pytest.raises(FileNotFoundError, match=message):
        check_checkpoint_exists(path, KEY)
    with pytest.raises(FileNotFoundError, match=rf"teacher_ckpt='{tmp_path}': .* is a folder"):
        check_checkpoint_exists(str(tmp_path), KEY)


@pytest.mark.parametrize('url', ['https://127.0.0.1:9/a.pth', 'torchvision://resnet50'])
def test_an_url_is_not_looked_for_on_the_disk(url):
    check_checkpoint_exists(url, KEY)


@pytest.mark.parametrize('content', [b'', b'no checkpoint', b'\x80\x02broken'])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / 'weights.pth'
    path.write_bytes(content)

    with pytest.raises(RuntimeError, match=rf"teacher_ckpt='{path}' is no readable checkpoint"):
        read_checkpoint(str(path), KEY)


@pytest.mark.parametrize('content', [[1, 2], torch.ones(2), dict(state_dict=None)])
def test_a_file_without_weights_is_named(tmp_path, content):
    path = save(content, tmp_path)

    with pytest.raises(RuntimeError, match=rf"teacher_ckpt='{path}'"):
        load_weights(network(), path, KEY)


def test_a_long_list_is_cut_and_counted():
    names = [f'layer{i}.weight' for i in range(9)]

    message = describe_mismatch(names, [])

    expected = 'layer0.weight, layer1.weight, layer2.weight, layer3.weight, …'
    assert message == f'9 missing ({expected})'
    assert describe_mismatch([], []) == ''


def test_the_folder_of_a_relative_path_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = re.escape(f"in '{tmp_path / 'weights'}', nor beside the config file")

    with pytest.raises(FileNotFoundError, match=rf"^teacher_ckpt='weights/a\.pth': .* {where}"):
        build_distiller(teacher_ckpt='weights/a.pth')
    with pytest.raises(FileNotFoundError, match=rf"^teacher='weights/a\.py': .* {where}"):
        build_distiller(teacher='weights/a.py')
