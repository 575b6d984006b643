"""Where a student's or teacher's config comes from, and the scope that it is built in."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from reviewkd_mm.models.distillers.model_source import (
    config_root,
    is_distiller,
    read_source,
    student_source,
)
from reviewkd_mm.registry import MODELS
from tests.models.distillers.helpers import (
    PIXELS,
    build_distiller,
    classifier,
    distiller_cfg,
    logits,
    teacher_classifier,
)

RESNET20 = 'reviewkd_mm::baselines/resnet20_cifar100.py'
RETINANET = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'


def write(folder: Path, **keys: object) -> str:
    """Write a config file and return its path."""
    Config(keys, format_python_code=False).dump(folder / 'model.py')
    return str(folder / 'model.py')


def bare(**kwargs) -> dict:
    """A classifier whose type has no scope."""
    return classifier(type='ImageClassifier', **kwargs)


def test_a_dict_is_copied():
    given = classifier()
    kept = copy.deepcopy(given)

    source = read_source('student', given)
    source.cfg['backbone']['depth'] = 14
    source.build()

    assert given == kept


def test_a_file_brings_its_data_preprocessor_and_scope(tmp_path):
    model = bare()
    del model['data_preprocessor']
    path = write(tmp_path, model=model, data_preprocessor=PIXELS, default_scope='mmpretrain')

    built = read_source('student', path).build()

    assert type(built).__name__ == 'ImageClassifier'
    assert built.data_preprocessor.mean.flatten().tolist() == pytest.approx(PIXELS['mean'])


def test_a_path_object_is_a_path(tmp_path):
    path = write(tmp_path, model=bare(), default_scope='mmpretrain')

    assert read_source('teacher', Path(path)).cfg['type'] == 'ImageClassifier'


def test_models_own_data_preprocessor_wins_over_the_files(tmp_path):
    path = write(tmp_path, model=bare(), data_preprocessor=dict(mean=[1.0], std=[2.0]))

    assert read_source('student', path).cfg['data_preprocessor'] == PIXELS


def test_package_paths_of_our_own_work_in_a_checkout():
    source = read_source('student', RESNET20)

    assert source.cfg['backbone']['depth'] == 20
    assert source.scope == 'mmpretrain'
    assert source.checkpoint is None
    assert (config_root('reviewkd_mm') / 'baselines').is_dir()
    assert sum(p.numel() for p in source.build().parameters()) == 278_324


def test_package_paths_bring_the_checkpoint_of_the_metafile():
    source = read_source('teacher', RETINANET)

    assert source.scope == 'mmdet'
    assert source.checkpoint.startswith('https://')
    assert source.checkpoint.endswith('.pth')
    assert 'retinanet_r50_fpn_1x_coco' in source.checkpoint


def test_package_paths_of_student_and_teacher():
    distiller = build_distiller(
        student=RESNET20, teacher=RESNET20, transfers=dict(kd=logits()), teacher_ckpt='random'
    )

    assert distiller.student.backbone.conv1.out_channels == 16
    assert distiller.student.head.fc.out_features == 100


def test_the_config_of_a_distiller_means_its_student(tmp_path):
    student = bare()
    del student['data_preprocessor']
    path = write(
        tmp_path,
        model=distiller_cfg(student=student),
        data_preprocessor=PIXELS,
        default_scope='mmpretrain',
    )

    source = read_source('teacher', path)

    assert source.cfg == dict(bare(), data_preprocessor=PIXELS)
    assert source.build().backbone.conv1.out_channels == 4


def test_checkpoint_of_a_distillers_config_is_not_that_of_its_student():
    cfg = Config(dict(model=distiller_cfg(student=RETINANET)))

    assert student_source(cfg).checkpoint is None
    assert student_source(cfg, 'distilled.pth').checkpoint == 'distilled.pth'


def test_a_distiller_is_known_by_its_two_models():
    assert is_distiller(distiller_cfg())
    assert not is_distiller(classifier())


@pytest.mark.parametrize('current', ['mmdet', 'mmpretrain', 'reviewkd_mm', None])
@pytest.mark.parametrize(
    'cfg', [classifier(), dict(bare(), _scope_='mmpretrain')], ids=['prefix', '_scope_']
)
def test_a_dict_is_built_wholly_in_its_own_scope(current, cfg):
    with DefaultScope.overwrite_default_scope(current):
        model = read_source('student', cfg).build()

    assert type(model.neck).__module__.startswith('mmpretrain.')


@pytest.mark.parametrize('kind', ['_scope_', 'prefix'])
def test_a_dicts_scope_wins_over_its_files(tmp_path, kind):
    model = classifier() if kind == 'prefix' else dict(bare(), _scope_='mmpretrain')
    path = write(tmp_path, model=model, default_scope='mmdet')

    assert type(read_source('student', path).build().neck).__module__.startswith('mmpretrain.')


def test_a_dict_without_a_scope_is_built_in_the_current_one():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        distiller = build_distiller(student=bare(), teacher=teacher_classifier())

    assert type(distiller.student).__module__.startswith('mmpretrain.')


def test_a_module_path_as_type_is_no_scope():
    cfg = dict(type='torch.nn.Linear', in_features=2, out_features=3)

    assert type(read_source('student', cfg).build()) is nn.Linear


def test_building_draws_what_building_alone_draws():
    torch.manual_seed(4)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        expected = MODELS.build(classifier()).backbone.conv1.weight
    torch.manual_seed(4)
    actual = read_source('student', classifier()).build().backbone.conv1.weight

    assert torch.equal(actual, expected)


@pytest.mark.parametrize(
    ('value', 'error', 'message'),
    [
        (5, ValueError, r'teacher=5: expected a model config, a config path or a module'),
        (dict(depth=20), ValueError, r"teacher: expected a model config with the key 'type'"),
        (
            'reviewkd_mm::baselines/resnet21_cifar100.py',
            FileNotFoundError,
            r"teacher='reviewkd_mm::baselines/resnet21.*did you mean 'resnet.*_cifar100\.py'",
        ),
        (
            'mmdet::retinanett/retinanet_r50_fpn_1x_coco.py',
            FileNotFoundError,
            r"teacher='mmdet::retinanett/.*did you mean 'retinanet'",
        ),
        (
            'mmdett::retinanet/retinanet_r50_fpn_1x_coco.py',
            ValueError,
            r"teacher='mmdett::.*package 'mmdett' is not installed",
        ),
        ('configs::a/b.py', ValueError, r"package 'configs' is not installed"),
    ],
)
def test_errors_name_the_key_the_value_and_what_was_meant(value, error, message):
    with pytest.raises(error, match=message):
        read_source('teacher', value)


def test_a_missing_package_that_is_known_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr('reviewkd_mm.models.distillers.model_source.find_spec', lambda name: None)

    with pytest.raises(ValueError, match='to install it: pip install onedl-mmsegmentation=='):
        read_source('teacher', 'mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py')


@pytest.mark.parametrize('path', ['modell.py', './modell.py', 'sub/model.py', 'model'])
@pytest.mark.parametrize('there', [True, False])
def test_a_file_that_is_not_there(tmp_path, monkeypatch, path, there):
    monkeypatch.chdir(tmp_path)
    if there:
        write(tmp_path, model=bare())

    with pytest.raises(FileNotFoundError, match=rf"student='{path}': there is no such config"):
        read_source('student', path)


def test_a_file_without_a_model(tmp_path):
    path = write(tmp_path, optimizer=dict(type='SGD'))

    with pytest.raises(ValueError, match=rf"student='{path}': this config file has no 'model'"):
        read_source('student', path)
