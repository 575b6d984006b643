"""Tests of checking a config: what is built, measured, missing and wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from reviewkd_mm.cli.config_check import DEFAULT_SIZE, check_config, find_configs
from tests.cli.configs import write_baseline, write_config, write_pair, write_teacher
from tests.configs.reading import FILES
from tests.integration.detection import faster_rcnn, retinanet
from tests.models.distillers.helpers import (
    STAGES,
    build,
    build_distiller,
    classifier,
    distiller_cfg,
    logits,
    review,
    teacher_classifier,
)

# (C, H, W) of a CIFAR ResNet for an image of 32 x 32: three stages and the pooled feature.
SIDES = (32, 16, 8, 1)
STUDENT_SHAPES = [(c, side, side) for c, side in zip((4, 8, 16, 16), SIDES, strict=True)]
TEACHER_SHAPES = [(c, side, side) for c, side in zip((8, 16, 32, 32), SIDES, strict=True)]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / 'pair.py'


@pytest.fixture(autouse=True)
def no_download(monkeypatch) -> None:
    """Fail where anything is fetched."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f'a download: {args}')

    monkeypatch.setattr('mmengine.runner.checkpoint.load_url', refuse)


def numel(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def save_teacher(path: Path) -> str:
    torch.save(dict(state_dict=build(teacher_classifier()).state_dict()), path)
    return str(path)


def test_a_good_pair(file):
    transfers = dict(
        review=review(loss=dict(type='HCLLoss', loss_weight=0.6), warmup_epochs=20), kd=logits()
    )
    check = check_config(write_pair(file, transfers=transfers))

    assert check.error is None
    assert (check.missing, check.downloads) == ([], [])
    assert (check.image_size, check.image_size_from) == ((32, 32), 'the train pipeline')
    student, teacher = check.networks['student'], check.networks['teacher']
    assert (student.model, student.backbone) == ('ImageClassifier', 'CIFARResNet, depth 8')
    assert student.parameters == numel(build(classifier()))
    assert teacher.parameters == numel(build(teacher_classifier()))
    assert student.flops_of == teacher.flops_of == 'whole network'
    assert 0 < student.flops < teacher.flops
    distiller = build_distiller(transfers=transfers)
    assert check.transfer_parameters == numel(distiller.transfers) > 0
    found = check.transfers['review']
    assert (found.connector, found.loss) == ('ReviewConnector', 'HCLLoss')
    assert (found.loss_weight, found.warmup_epochs) == (0.6, 20)
    assert [shape for _, shape in found.shapes.student] == STUDENT_SHAPES
    assert [shape for _, shape in found.shapes.teacher] == TEACHER_SHAPES
    assert found.shapes.connected == TEACHER_SHAPES
    assert [tap for tap, _ in found.shapes.student] == STAGES
    assert found.shapes.teacher[0][0] == 'backbone.layer1.-1.relu (input)'
    kd = check.transfers['kd']
    assert (kd.connector, kd.shapes.connected) == (None, [])
    assert kd.shapes.student == kd.shapes.teacher == [('head', (5, 1, 1))]


def test_another_image_size(file):
    check = check_config(write_pair(file), image_size=(48, 64))

    assert (check.image_size, check.image_size_from) == ((48, 64), '--image-size')
    shapes = check.transfers['review'].shapes
    assert [shape[1:] for _, shape in shapes.student] == [(48, 64), (24, 32), (12, 16), (1, 1)]
    assert [shape[1:] for shape in shapes.connected] == [(48, 64), (24, 32), (12, 16), (1, 1)]


def test_without_a_size_in_the_pipelines_there_is_a_default(file):
    check = check_config(write_baseline(file))
    assert check.image_size == (32, 32)

    options = {'train_dataloader.dataset.pipeline': [dict(type='PackInputs')]}
    check = check_config(str(file), options)

    assert check.image_size == DEFAULT_SIZE
    assert 'default' in check.image_size_from


def test_a_baseline_has_one_network_and_no_transfer(file):
    check = check_config(write_baseline(file))

    assert check.error is None
    assert list(check.networks) == ['model']
    assert check.networks['model'].parameters == numel(build(classifier()))
    assert check.networks['model'].flops > 0
    assert check.transfers == {}


def test_flops_need_not_be_counted(file):
    check = check_config(write_baseline(file), flops=False)

    assert check.networks['model'].flops is None
    assert check.networks['model'].parameters > 0


def test_a_teacher_given_as_a_config_path(file, tmp_path):
    path = write_teacher(tmp_path / 'teacher.py')

    check = check_config(write_pair(file, teacher=path))

    assert check.networks['teacher'].config == path
    assert check.networks['student'].config is None


def test_the_features_of_a_detectors_neck(file):
    model = dict(
        distiller_cfg(),
        student=retinanet(width=4, channels=8),
        teacher=faster_rcnn(width=8, channels=16),
        transfers=dict(review=dict(review(), student='neck', teacher='neck')),
    )
    check = check_config(
        write_config(file, model),
        {'default_scope': 'mmdet', 'train_dataloader': None},
        image_size=(64, 90),
    )

    assert check.error is None
    # Padded to a multiple of 32.
    assert check.image_size == (64, 96)
    student = check.transfers['review'].shapes.student
    # RetinaNet's levels have the strides 8 to 128.
    assert student == [
        ('neck[0]', (8, 8, 12)),
        ('neck[1]', (8, 4, 6)),
        ('neck[2]', (8, 2, 3)),
        ('neck[3]', (8, 1, 2)),
        ('neck[4]', (8, 1, 1)),
    ]


def test_a_broken_tap_is_an_error(file):
    broken = review(student=['backbone.layer9', *STAGES[1:]])

    check = check_config(write_pair(file, transfers=dict(review=broken)))

    assert check.error.startswith('transfers.review.student')
    assert 'layer9' in check.error
    assert 'did you mean' in check.error
    assert check.networks == {}


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('model = dict(', 'SyntaxError'),
        ('default_scope = "mmpretrain"', "no 'model'"),
        ('model = dict(type="NoSuchNetwork")', 'NoSuchNetwork'),
        ('_base_ = "not_there.py"', 'not_there.py'),
    ],
)
def test_what_a_config_file_can_be_wrong_with(file, text, said):
    file.write_text(text)

    assert said in check_config(str(file)).error


def test_a_file_that_is_not_there():
    assert 'no such file' in check_config('nowhere/pair.py').error


def test_a_missing_teacher_checkpoint_is_no_error(file, tmp_path):
    (tmp_path / 'teacher_56.pth').touch()
    checkpoint = str(tmp_path / 'teacher_65.pth')

    check = check_config(write_pair(file, teacher_ckpt=checkpoint))

    assert check.error is None
    (line,) = check.missing
    assert f"teacher_ckpt='{checkpoint}'" in line
    assert "'teacher_56.pth'" in line
    assert list(check.networks) == ['student', 'teacher']


def test_a_remote_teacher_checkpoint_will_be_downloaded(file):
    url = 'https://example.org/teacher-12345678.pth'

    check = check_config(write_pair(file, teacher_ckpt=url))

    assert (check.error, check.missing) == (None, [])
    assert url in check.downloads[0]


def test_a_teacher_checkpoint_that_is_there_is_loaded(file, tmp_path):
    checkpoint = save_teacher(tmp_path / 'teacher.pth')
    assert check_config(write_pair(file, teacher_ckpt=checkpoint)).error is None

    check = check_config(write_pair(file, teacher=classifier(), teacher_ckpt=checkpoint))

    assert 'does not fit' in check.error


def test_a_teacher_without_any_checkpoint_is_an_error(file):
    assert 'has no known checkpoint' in check_config(write_pair(file, teacher_ckpt=None)).error


def test_weights_that_a_teacher_names_itself(file, tmp_path):
    checkpoint = str(tmp_path / 'teacher.pth')
    pretrained = dict(type='Pretrained', checkpoint=checkpoint)
    teacher = teacher_classifier(init_cfg=pretrained)
    write_pair(file, teacher=teacher, teacher_ckpt=None)

    (line,) = check_config(str(file)).missing
    save_teacher(tmp_path / 'teacher.pth')
    check = check_config(str(file))

    assert f"teacher.init_cfg.checkpoint='{checkpoint}'" in line
    assert (check.error, check.missing) == (None, [])


def test_weights_of_a_teachers_backbone_alone_are_refused_before_they_are_fetched(file):
    teacher = teacher_classifier()
    remote = dict(type='Pretrained', checkpoint='https://example.org/a-12345678.pth')
    teacher['backbone']['init_cfg'] = remote

    check = check_config(write_pair(file, teacher=teacher, teacher_ckpt=None))

    assert (
        'teacher.backbone.init_cfg.checkpoint gives weights to the backbone alone' in check.error
    )


def test_pretrained_weights_of_the_student_are_named_not_fetched(file, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'cache'))
    remote = dict(type='Pretrained', checkpoint='torchvision://resnet18', prefix='backbone')
    student = classifier()
    student['backbone']['init_cfg'] = [dict(type='Kaiming', layer='Conv2d'), remote]
    student['head']['init_cfg'] = dict(type='Pretrained', checkpoint=str(tmp_path / 'head.pth'))

    check = check_config(write_pair(file, student=student))

    assert check.error is None
    assert check.downloads == ['torchvision://resnet18 (student.backbone.init_cfg.checkpoint)']
    (line,) = check.missing
    assert 'student.head.init_cfg.checkpoint' in line


def test_missing_data_is_named_and_the_rest_measured(file, tmp_path):
    options = {
        'train_dataloader.dataset': dict(
            _delete_=True, type='reviewkd_mm.CIFAR100', data_root=str(tmp_path / 'cifar')
        ),
        'load_from': str(tmp_path / 'start.pth'),
    }

    check = check_config(write_pair(file), options)

    assert check.error is None
    data, start = check.missing
    assert str(tmp_path / 'cifar') in data
    assert 'start.pth' in start
    assert check.networks['student'].parameters > 0


def test_the_top_level_data_preprocessor_is_the_students(file):
    student = classifier()
    pixels = student.pop('data_preprocessor')
    model = distiller_cfg(student=student)

    unknown = dict(pixels, no_such_key=1)
    check = check_config(write_config(file, model, data_preprocessor=unknown))
    assert 'no_such_key' in check.error

    check = check_config(write_config(file, model, data_preprocessor=pixels))
    assert check.error is None


def test_logging_is_as_it_was(file):
    level = logging.root.manager.disable

    check_config(write_baseline(file))

    assert logging.root.manager.disable == level


def test_the_projects_configs_are_found_without_their_bases():
    assert find_configs() == sorted(str(file) for file in FILES)
