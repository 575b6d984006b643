"""Tests of finding what a training would miss."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from mmengine.config import Config

from reviewkd_mm.checks import missing
from reviewkd_mm.checks.missing import (
    describe_weights,
    find_data_downloads,
    find_missing_data,
    find_missing_packages,
)


def coco(root: str, **kwargs: object) -> dict:
    dataset = dict(
        type='CocoDataset', data_root=root, ann_file='a/train.json', data_prefix=dict(img='img/')
    )
    return dict(dataset={**dataset, **kwargs})


def test_a_missing_root_is_named_once_and_nothing_below_it(tmp_path):
    root = str(tmp_path / 'coco')
    cfg = Config(
        dict(
            train_dataloader=coco(root),
            val_dataloader=dict(dataset=dict(type='RepeatDataset', **coco(root))),
            val_evaluator=dict(type='CocoMetric', ann_file=f'{root}/a/val.json'),
        )
    )

    (line,) = find_missing_data(cfg)

    assert f"'{root}'" in line
    assert 'train_dataloader.dataset.data_root' in line
    assert 'val_dataloader.dataset.dataset.data_root' in line


def test_missing_files_below_a_root_that_is_there(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'train.json').touch()
    cfg = Config(
        dict(
            train_dataloader=coco(str(tmp_path)),
            val_dataloader=coco(str(tmp_path), ann_file='a/val.json'),
            val_evaluator=[dict(type='CocoMetric', ann_file=str(tmp_path / 'a' / 'val.json'))],
        )
    )

    images, annotations = find_missing_data(cfg)

    assert f"'{tmp_path / 'img'}'" in images
    assert 'train_dataloader.dataset.data_prefix.img' in images
    assert f"'{tmp_path / 'a' / 'val.json'}'" in annotations
    keys = ('val_dataloader.dataset.ann_file', 'val_evaluator.ann_file')
    assert all(key in annotations for key in keys)

    (tmp_path / 'img').mkdir()
    (tmp_path / 'a' / 'val.json').touch()
    assert find_missing_data(cfg) == []


def test_data_that_is_not_read_from_this_disk(tmp_path):
    generated = dict(dataset=dict(type='reviewkd_mm.Digits'))
    remote = coco('s3://bucket/coco/')
    fetched = dict(dataset=dict(type='CIFAR100', data_root=str(tmp_path / 'c'), download=True))
    cfg = Config(dict(train_dataloader=remote, val_dataloader=generated, test_dataloader=fetched))

    assert find_missing_data(cfg) == []
    (line,) = find_data_downloads(cfg)
    assert str(tmp_path / 'c') in line
    (tmp_path / 'c').mkdir()
    assert find_data_downloads(cfg) == []


def test_packages_that_are_not_installed(monkeypatch):
    absent = {'panopticapi', 'mmseg'}
    monkeypatch.setattr(
        missing, 'find_spec', lambda name: None if name in absent else find_spec(name)
    )
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=dict(type='Distiller', student=dict(type='mmseg.models.EncoderDecoder')),
            train_dataloader=dict(dataset=dict(type='CocoPanopticDataset')),
            val_evaluator=[dict(type='mmdet.CocoPanopticMetric')],
        )
    )

    lines = find_missing_packages(cfg)

    assert len(lines) == 2
    assert "'mmseg', which type='mmseg.models.EncoderDecoder' needs" in lines[0]
    assert 'pip install onedl-mmsegmentation' in lines[0]
    assert "'panopticapi', which type='CocoPanopticDataset' needs" in lines[1]
    absent.clear()
    absent.add('mmdet')
    assert "default_scope='mmdet'" in find_missing_packages(cfg)[0]


def test_weights_on_this_disk(tmp_path):
    (tmp_path / 'teacher.pth').touch()

    assert describe_weights('teacher_ckpt', str(tmp_path / 'teacher.pth')) == (None, None)
    absent, download = describe_weights('teacher_ckpt', str(tmp_path / 'techer.pth'))
    assert 'techer.pth' in absent
    assert "did you mean 'teacher.pth'?" in absent
    assert download is None


@pytest.mark.parametrize(
    ('checkpoint', 'file'),
    [
        ('https://example.org/x/teacher-1234abcd.pth', 'teacher-1234abcd.pth'),
        ('torchvision://resnet18', 'resnet18-f37072fd.pth'),
    ],
)
def test_remote_weights_are_downloaded_once(tmp_path, monkeypatch, checkpoint, file):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))

    absent, download = describe_weights('teacher_ckpt', checkpoint)
    assert absent is None
    assert checkpoint in download

    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints' / file).touch()
    assert describe_weights('teacher_ckpt', checkpoint) == (None, None)


def test_a_name_that_no_catalogue_has_is_missing():
    absent, download = describe_weights('init_cfg.checkpoint', 'torchvision://resnet188')

    assert 'init_cfg.checkpoint' in absent
    assert "'resnet18'" in absent
    assert download is None
