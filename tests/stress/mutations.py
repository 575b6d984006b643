"""Mutations of the good configs of a classifier and a detector pair, by class, and their endings.

A mutation sets keys of a config, by their dotted names; a value that is a function makes a file
first. It ends in a training, or in a message that has certain parts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.models.distillers.detection import retinanet
from tests.models.distillers.helpers import (
    BEFORE_RELU,
    STAGES,
    build,
    classifier,
    logits,
    review,
    teacher_classifier,
)
from tests.stress.trainings import REMOVED, base_config, changed, train, write_images

TRAINS = 'trains'
REVIEW = 'model.transfers.review'
NO_CHECKPOINT = '/nowhere/teacher.pth'
TRAIN = 'train_dataloader'
VAL = 'val_dataloader'


@dataclass(frozen=True)
class Case:
    """One mutation.

    Args:
        pair (str): ``'classifier'`` or ``'detector'``.
        change (dict[str, Any]): Values by dotted key; a function is given the folder of the
            training and of the data, and returns the value.
        expected (str | tuple[str, ...]): ``TRAINS``, or what the message must contain.
        options (tuple[str, ...]): Options of tools/train.py. Defaults to none.
        kind (str): How it ends if not in a training, see :class:`Ending`. Defaults to
            ``'refused'``.
    """

    pair: str
    change: dict[str, Any]
    expected: str | tuple[str, ...]
    options: tuple[str, ...] = ()
    kind: str = 'refused'


def of_classifier(change: dict[str, Any], *expected: str, options: tuple = ()) -> Case:
    return Case('classifier', change, expected or TRAINS, options)


def of_detector(change: dict[str, Any], *expected: str, options: tuple = ()) -> Case:
    return Case('detector', change, expected or TRAINS, options)


def of_library(case: Case) -> Case:
    """Expect a library's error, with its traceback, which says enough."""
    return replace(case, kind='raised')


def set_to(key: str, value: Any, *expected: str) -> Case:
    """Change one key of the classifiers."""
    return Case('classifier', {key: value}, expected or TRAINS)


def in_detector(key: str, value: Any, *expected: str) -> Case:
    """Change one key of the detectors."""
    return Case('detector', {key: value}, expected or TRAINS)


WRONG_TYPES = {
    'student is a number': set_to('model.student', 3, 'student=3', 'expected a model config'),
    'student is a list': set_to('model.student', [classifier()], 'student=', 'expected a model'),
    'student is null': set_to('model.student', None, 'student=None', 'expected a model config'),
    'teacher is a number': set_to('model.teacher', 1.5, 'teacher=1.5', 'expected a model config'),
    'teacher is true': in_detector('model.teacher', True, 'teacher=True', 'expected a model'),
    'student without keys': set_to('model.student', {}, 'student', "the key 'type'"),
    'teacher without keys': set_to('model.teacher', {}, 'teacher', "the key 'type'"),
    'teacher_ckpt is a number': set_to('model.teacher_ckpt', 7, 'teacher_ckpt=7', 'expected'),
    'teacher_ckpt is a list': set_to(
        'model.teacher_ckpt', ['random'], 'teacher_ckpt=', 'expected'
    ),
    'teacher_ckpt is true': set_to('model.teacher_ckpt', True, 'teacher_ckpt=True', 'expected'),
    'teacher_ckpt is empty': set_to('model.teacher_ckpt', '', 'teacher_ckpt', "'random'"),
    'transfers is a list': set_to('model.transfers', [review()], 'transfers=[', 'expected a dict'),
    'transfers is a name': set_to('model.transfers', 'review', "transfers='review'", 'a dict'),
    'transfer is a name': set_to(REVIEW, 'neck', 'transfers.review', "'neck'", 'expected a dict'),
    'transfer is a list': set_to(REVIEW, [review()], 'transfers.review', 'expected a dict'),
    'transfer is null': in_detector(REVIEW, None, 'transfers.review', 'None', 'expected a dict'),
    'tap is a number': set_to(f'{REVIEW}.student', 7, 'transfers.review.student', '7', 'path'),
    'tap is null': in_detector(f'{REVIEW}.teacher', None, 'transfers.review.teacher', 'None'),
    'tap in a list in a list': set_to(
        f'{REVIEW}.student', [STAGES], 'transfers.review.student', 'a module path or a dict'
    ),
    'tap without a source': set_to(
        f'{REVIEW}.student.0', dict(type='ModuleInputs'), 'transfers.review.student', 'source'
    ),
    'source is a number': set_to(
        f'{REVIEW}.teacher.0.source', 5, 'transfers.review.teacher', 'path of a module', '5'
    ),
    'call is a word': set_to(
        f'{REVIEW}.teacher.0.call', 'last', 'transfers.review.teacher', "call='last'"
    ),
    'call is a fraction': set_to(
        f'{REVIEW}.teacher.0.call', 0.5, 'transfers.review.teacher', 'call=0.5'
    ),
    'connector is a name': set_to(
        f'{REVIEW}.connector', 'ReviewConnector', 'review.connector', "'ReviewConnector'", "'type'"
    ),
    'connector is a list': set_to(f'{REVIEW}.connector', [], 'review.connector', '[]', "'type'"),
    'connector is a number': in_detector(f'{REVIEW}.connector', 1, 'review.connector', '1'),
    'loss is a name': set_to(f'{REVIEW}.loss', 'HCLLoss', 'review.loss', "'HCLLoss'", "'type'"),
    'loss is null': set_to(f'{REVIEW}.loss', None, 'review.loss', 'None', "'type'"),
    'loss type is a number': set_to(f'{REVIEW}.loss.type', 4, 'review.loss', 'type=4', 'expected'),
    'loss type is a list': set_to(
        f'{REVIEW}.loss.type', ['HCLLoss'], 'review.loss', "type=['HCLLoss']", 'expected'
    ),
    'connector type is null': set_to(
        f'{REVIEW}.connector.type', None, 'review.connector', 'type=None', 'expected'
    ),
    'loss_weight is a word': set_to(
        f'{REVIEW}.loss.loss_weight', '5', 'review.loss', "loss_weight='5'", 'finite number'
    ),
    'loss_weight is a list': in_detector(
        f'{REVIEW}.loss.loss_weight', [1, 1], 'review.loss', 'loss_weight=[1, 1]', 'number'
    ),
    'loss_weight is true': set_to(
        f'{REVIEW}.loss.loss_weight', True, 'review.loss', 'loss_weight=True', 'number'
    ),
    'levels is a number': set_to(f'{REVIEW}.loss.levels', 4, 'review.loss', 'levels=4'),
    'levels is a word': set_to(f'{REVIEW}.loss.levels', '421', 'review.loss', "levels='421'"),
    'levels holds a fraction': set_to(
        f'{REVIEW}.loss.levels', [4, 2.5], 'review.loss', 'levels=[4, 2.5]', 'positive integers'
    ),
    'mid_channels is a word': set_to(
        f'{REVIEW}.connector.mid_channels', '8', 'review.connector', "mid_channels='8'", 'integer'
    ),
    'mid_channels is a fraction': in_detector(
        f'{REVIEW}.connector.mid_channels', 8.5, 'review.connector', 'mid_channels=8.5', 'integer'
    ),
    'mid_channels is a list': set_to(
        f'{REVIEW}.connector.mid_channels', [8], 'review.connector', 'mid_channels=[8]', 'integer'
    ),
    'norm_cfg is a name': set_to(
        f'{REVIEW}.connector.norm_cfg',
        'BN',
        'review.connector',
        "'norm_cfg': 'BN'",
        'other settings',
    ),
    'attention is a word': set_to(
        f'{REVIEW}.connector.attention',
        'no',
        'review.connector',
        "attention='no'",
        'True or False',
    ),
    'warmup_epochs is a word': set_to(
        f'{REVIEW}.warmup_epochs', '20', 'transfers.review', "warmup_epochs='20'", 'number'
    ),
    'warmup_epochs is a list': in_detector(
        f'{REVIEW}.warmup_epochs', [1], 'transfers.review', 'warmup_epochs=[1]', 'number'
    ),
    'task_loss_weight is a word': set_to(
        'model.task_loss_weight', 'one', 'task_loss_weight', "'one'", 'finite number'
    ),
    'task_loss_weight is null': set_to(
        'model.task_loss_weight', None, 'task_loss_weight', 'None', 'finite number'
    ),
    'teacher_train_bn is a word': set_to(
        'model.teacher_train_bn', 'False', "teacher_train_bn='False'", 'True or False'
    ),
    'channels_last is a word': set_to(
        'model.channels_last', 'no', "channels_last='no'", 'True or False'
    ),
    'teacher_fold_bn is a number': in_detector(
        'model.teacher_fold_bn', 2, 'teacher_fold_bn=2', 'True or False'
    ),
    'trust_checkpoint is a word': set_to(
        'model.trust_checkpoint', 'no', "trust_checkpoint='no'", 'True or False'
    ),
    'teacher_dtype is a number': set_to('model.teacher_dtype', 16, 'teacher_dtype=16', "'fp16'"),
    'teacher_dtype is unknown': in_detector(
        'model.teacher_dtype', 'float16', "teacher_dtype='float16'", "'fp16'"
    ),
    'allow_mismatch is a number': set_to(
        'model.allow_mismatch', 3, 'allow_mismatch=3', 'expected', 'pattern'
    ),
    'allow_mismatch holds a number': set_to(
        'model.allow_mismatch', [3], 'allow_mismatch=[3]', 'expected', 'pattern'
    ),
    'data_preprocessor is a word': set_to(
        'model.student.data_preprocessor', 'imagenet', 'student', "data_preprocessor='imagenet'"
    ),
    'depth is a word': set_to('model.student.backbone.depth', '8', 'student', "depth='8'"),
    'base_channels is a number': set_to(
        'model.student.backbone.base_channels', 16, 'student', 'base_channels=16', 'expected'
    ),
    'backbone is a name': set_to(
        'model.student.backbone', 'CIFARResNet', 'student', 'CIFARResNet', 'dict'
    ),
    'backbone of a detector is a list': in_detector('model.teacher.backbone', [1], 'teacher'),
    'num_classes is a word': set_to('model.student.head.num_classes', 'five', 'student', 'five'),
    'strides are a number': in_detector('model.student.neck.in_channels', 4, 'student', 'neck'),
}

MISSING_KEYS = {
    'no model': of_classifier({'model': REMOVED}, 'model=None', "the key 'type'"),
    'model without a type': set_to('model.type', REMOVED, 'model', "'type'"),
    'no student': set_to('model.student', REMOVED, 'model: ', "'student' is missing"),
    'no teacher': set_to('model.teacher', REMOVED, 'model: ', "'teacher' is missing"),
    'no transfers': set_to('model.transfers', REMOVED, 'model: ', "'transfers' is missing"),
    'no checkpoint': set_to('model.teacher_ckpt', REMOVED, 'no known checkpoint', "'random'"),
    'no checkpoint of a detector': in_detector(
        'model.teacher_ckpt', REMOVED, "teacher='mmdet.RetinaNet'", 'no known checkpoint'
    ),
    'transfer without student': set_to(
        f'{REVIEW}.student', REMOVED, 'transfers.review', "'student' is missing"
    ),
    'transfer without teacher': in_detector(
        f'{REVIEW}.teacher', REMOVED, 'transfers.review', "'teacher' is missing"
    ),
    'transfer without loss': set_to(
        f'{REVIEW}.loss', REMOVED, 'transfers.review', "'loss' is missing"
    ),
    'loss without a type': set_to(f'{REVIEW}.loss.type', REMOVED, 'review.loss', "the key 'type'"),
    'connector without a type': set_to(
        f'{REVIEW}.connector.type', REMOVED, 'review.connector', "the key 'type'"
    ),
    'tap without a type': set_to(
        f'{REVIEW}.teacher.0.type', REMOVED, 'transfers.review.teacher', "type='ModuleInputs'"
    ),
    'student without a type': set_to('model.student.type', REMOVED, 'student', "the key 'type'"),
    'teacher without a type': in_detector('model.teacher.type', REMOVED, 'teacher', "'type'"),
    'student without a backbone': set_to(
        'model.student.backbone', REMOVED, 'student', 'backbone', 'missing'
    ),
    'student without a head': set_to('model.student.head', REMOVED, 'head'),
    'student without a neck': set_to(
        'model.student.neck', REMOVED, 'transfers.review.student', "'neck'"
    ),
    'backbone without a type': set_to(
        'model.student.backbone.type', REMOVED, 'student.backbone', "'type'"
    ),
    'backbone without a depth': set_to(
        'model.student.backbone.depth', REMOVED, 'student.backbone', "'depth'", 'missing'
    ),
    'head without num_classes': set_to(
        'model.student.head.num_classes', REMOVED, 'student.head', "'num_classes'", 'missing'
    ),
    'detector without a head': in_detector('model.student.bbox_head', REMOVED, 'student'),
    'detector without a neck': in_detector(
        'model.student.neck', REMOVED, 'student: ', "'neck' is missing"
    ),
    'neck without in_channels': in_detector(
        'model.teacher.neck.in_channels', REMOVED, 'teacher.neck', "'in_channels'", 'missing'
    ),
    'no optimizer': set_to('optim_wrapper.optimizer', REMOVED, 'optim_wrapper', 'optimizer'),
    'no optim_wrapper': set_to('optim_wrapper', REMOVED, 'optim_wrapper'),
    'no train_cfg': set_to('train_cfg', REMOVED, 'train_cfg'),
    'no dataloader': set_to(TRAIN, REMOVED, 'train_dataloader'),
    'no dataset': set_to(f'{TRAIN}.dataset', REMOVED, 'train_dataloader', 'dataset'),
    'dataset without a type': set_to(
        f'{TRAIN}.dataset.type', REMOVED, 'train_dataloader.dataset: ', "'type'"
    ),
    'no max_epochs': set_to('train_cfg.max_epochs', REMOVED, 'max_epochs', 'missing'),
    'no validation': of_classifier({VAL: None, 'val_evaluator': None, 'val_cfg': None}),
    'half a validation': set_to('val_evaluator', None, 'val_evaluator', 'val_dataloader'),
    'no learning rate': set_to('optim_wrapper.optimizer.lr', REMOVED),
    'no pipeline': set_to(f'{TRAIN}.dataset.pipeline', REMOVED, 'pipeline'),
}

WRONG_PATHS = {
    'student tap': set_to(
        f'{REVIEW}.student.1', 'backbone.layr2', 'review.student', "did you mean 'backbone.layer2'"
    ),
    'teacher tap': in_detector(f'{REVIEW}.teacher', 'nek', 'review.teacher', "mean 'neck'"),
    'tap of a block too many': set_to(
        f'{REVIEW}.teacher.0.source', 'backbone.layer1.4.relu', 'review.teacher', '0 to 0'
    ),
    'tap of a negative block': set_to(
        f'{REVIEW}.teacher.0.source', 'backbone.layer1.-2.relu', 'review.teacher', '0 to 0'
    ),
    'tap of nothing': set_to(f'{REVIEW}.student.0', '', 'review.student', "''", 'path'),
    'tap of dots': set_to(f'{REVIEW}.student.0', '..', 'review.student', "'..'"),
    'tap that ends in a dot': set_to(f'{REVIEW}.student.0', 'neck.', 'review.student', "'neck.'"),
    'tap of a method': set_to(
        f'{REVIEW}.student.0', 'backbone.forward', 'review.student', "'backbone.forward'"
    ),
    'tap of a weight': in_detector(
        f'{REVIEW}.student', 'backbone.conv1.weight', 'review.student', 'no children'
    ),
    'tap of the loss': set_to(f'{REVIEW}.student.3', 'head.loss_module', 'review.student'),
    'tap of the model itself': set_to(
        f'{REVIEW}.student.0', 'data_preprocessor', 'review.student'
    ),
    'tap of a call that never comes': in_detector(
        f'{REVIEW}.student', dict(type='ModuleOutputs', source='neck', call=3), 'call=3', '1 times'
    ),
    'tap with student before it': set_to(
        f'{REVIEW}.student.0', 'student.backbone.layer1', 'review.student', "'student'"
    ),
    'student config': set_to(
        'model.student', 'reviewkd_mm::baselines/resnet22_cifar100.py', 'student=', 'resnet2'
    ),
    'student config of a folder': set_to(
        'model.student', 'reviewkd_mm::baselines', 'student=', 'no such config file'
    ),
    'teacher config': in_detector(
        'model.teacher', 'mmdet::retinanett/retinanet_r101_fpn_1x_coco.py', "'retinanet'"
    ),
    'teacher config of no package': set_to(
        'model.teacher', 'mmnothing::resnet/resnet18.py', "teacher='mmnothing", 'not installed'
    ),
    'teacher config that is a data set': set_to(
        'model.teacher', 'reviewkd_mm::_base_/datasets/digits.py', 'teacher=', "no 'model'"
    ),
    'teacher config that is text': set_to(
        'model.teacher', lambda files: files.text('teacher.py', 'model = dict('), 'teacher='
    ),
    'teacher_ckpt': set_to('model.teacher_ckpt', NO_CHECKPOINT, f"teacher_ckpt='{NO_CHECKPOINT}'"),
    'teacher_ckpt is a folder': in_detector(
        'model.teacher_ckpt', lambda files: str(files.folder), 'teacher_ckpt=', 'no such file'
    ),
    'teacher_ckpt, random misspelt': set_to(
        'model.teacher_ckpt', 'randm', "teacher_ckpt='randm'", "'random'"
    ),
    'teacher_ckpt of an unknown name': set_to(
        'model.teacher_ckpt',
        'torchvision://resnt18',
        "teacher_ckpt='torchvision://resnt18'",
        "'resnet18'",
    ),
    'load_from': of_classifier({'load_from': NO_CHECKPOINT}, 'load_from', NO_CHECKPOINT),
    'resume': of_classifier({}, '--resume', NO_CHECKPOINT, options=('--resume', NO_CHECKPOINT)),
    'data_root': set_to(f'{TRAIN}.dataset.data_root', '/nowhere/cats', '/nowhere/cats'),
    'ann_file': in_detector(
        f'{TRAIN}.dataset.ann_file', 'annotations/train.json', 'annotations/train.json'
    ),
    'image folder': in_detector(f'{TRAIN}.dataset.data_prefix.img', 'images/', 'shapes/images'),
    'evaluator ann_file': in_detector('val_evaluator.ann_file', '/nowhere.json', '/nowhere.json'),
    'work_dir is a file': of_classifier(
        {}, 'work_dir', 'no folder', options=('--work-dir', '/dev/null')
    ),
    'Pretrained of the student': set_to(
        'model.student.backbone.init_cfg',
        dict(type='Pretrained', checkpoint=NO_CHECKPOINT),
        'model.student.backbone.init_cfg.checkpoint',
        NO_CHECKPOINT,
    ),
}

WRONG_SHAPES = {
    'fewer student taps': set_to(
        f'{REVIEW}.student', STAGES[:3], 'review.connector', '[4, 8, 16] (3)', '(4)'
    ),
    'fewer teacher taps': set_to(
        f'{REVIEW}.teacher', STAGES[:2], 'review.connector', '[8, 16] (2)', '(4)'
    ),
    'one level of a pyramid': in_detector(
        f'{REVIEW}.student', 'neck.fpn_convs.0', 'review.connector', '(1)', '(5)'
    ),
    'no connector': set_to(f'{REVIEW}.connector', None, 'review.loss', 'stage 0', 'connector'),
    'no connector of a detector': in_detector(
        f'{REVIEW}.connector', None, 'review.loss', 'stage 0', '(1, 8, ', '(1, 12, '
    ),
    'in_channels': set_to(
        f'{REVIEW}.connector.in_channels', [4, 8, 16, 32], 'in_channels=[4, 8, 16, 32]', '16, 16]'
    ),
    'out_channels of a detector': in_detector(
        f'{REVIEW}.connector.out_channels', [8] * 5, 'out_channels=[8, 8, 8, 8, 8]', '12, 12]'
    ),
    'in_channels is one number': set_to(
        f'{REVIEW}.connector.in_channels', 4, 'in_channels=4', '[4, 8, 16, 16]'
    ),
    'mid_channels is 0': set_to(
        f'{REVIEW}.connector.mid_channels', 0, 'review.connector', 'mid_channels=0'
    ),
    'mid_channels is negative': set_to(
        f'{REVIEW}.connector.mid_channels', -4, 'review.connector', 'mid_channels=-4'
    ),
    'groups that do not divide': set_to(
        f'{REVIEW}.connector.norm_cfg', dict(type='GN', num_groups=7), 'review.connector', '7'
    ),
    'logits of other classes': of_classifier(
        {'model.transfers': dict(kd=logits()), 'model.teacher.head.num_classes': 9},
        'transfers.kd.loss',
        '(1, 5)',
        '(1, 9)',
    ),
    'KD on feature maps': of_classifier(
        {'model.transfers': dict(kd=dict(logits(), student='backbone.layer1'))},
        'transfers.kd.loss',
        'logits',
        '(1, 4, 64, 64)',
    ),
    'HCL on logits': of_classifier(
        {'model.transfers': dict(kd=logits() | dict(loss=dict(type='HCLLoss')))},
    ),
    'ABF as the connector': set_to(
        f'{REVIEW}.connector', dict(type='ABF', mid_channels=8), 'review.connector', 'ABF'
    ),
    'a loss as the connector': set_to(
        f'{REVIEW}.connector', dict(type='HCLLoss'), 'review.connector', 'HCLLoss'
    ),
    'a connector as the loss': set_to(
        f'{REVIEW}.loss', dict(type='ReviewConnector'), 'review.loss', 'ReviewConnector'
    ),
    'a backbone as the loss': set_to(
        f'{REVIEW}.loss', dict(type='CIFARResNet', depth=8), 'review.loss', 'CIFARResNet'
    ),
    'MMPretrain loss as the loss': set_to(
        f'{REVIEW}.loss', dict(type='mmpretrain.CrossEntropyLoss'), 'review.loss'
    ),
    'depth': set_to('model.student.backbone.depth', 9, 'student', 'depth=9'),
    'depth of a detector': in_detector('model.student.backbone.depth', 9, 'student', '9'),
    'base_channels of three': set_to(
        'model.teacher.backbone.base_channels', [8, 8, 16], 'teacher', 'base_channels=[8, 8, 16]'
    ),
    'base_channels of 0': set_to(
        'model.student.backbone.base_channels', [0, 4, 4, 4], 'student', 'base_channels=[0, 4, 4'
    ),
    'channels of the head': of_library(
        set_to('model.student.head.in_channels', 99, 'RuntimeError', '99x5')
    ),
    'channels of the neck': in_detector(
        'model.student.neck.in_channels', [4, 8, 16, 31], 'student', '31'
    ),
    'channels of the head of a detector': of_library(
        in_detector('model.student.bbox_head.in_channels', 5, 'RuntimeError', 'to have 5 channels')
    ),
    'mean of two channels': set_to(
        'model.student.data_preprocessor.mean', [1.0, 2.0], 'student', 'mean'
    ),
    'std of zero': set_to(
        'model.teacher.data_preprocessor.std', [0.0, 1.0, 1.0], 'teacher', 'std', '0.0'
    ),
    'std of zero of the student': in_detector(
        'model.student.data_preprocessor.std', [58.0, 0.0, 57.0], 'student', 'std', '0.0'
    ),
    'grey images for the teacher': set_to(
        'model.teacher.backbone.in_channels', 1, 'teacher', 'in_channels'
    ),
    'classes of the data': set_to(
        'model.student.head.num_classes', 1, 'model.student.head.num_classes=1', 'more classes'
    ),
}

NUMBERS = {
    'loss_weight is NaN': set_to(
        f'{REVIEW}.loss.loss_weight', math.nan, 'review.loss', 'loss_weight=nan', 'finite'
    ),
    'loss_weight is infinite': in_detector(
        f'{REVIEW}.loss.loss_weight', math.inf, 'review.loss', 'loss_weight=inf', 'finite'
    ),
    'loss_weight is negative': set_to(
        f'{REVIEW}.loss.loss_weight', -1, 'review.loss', 'loss_weight=-1', '>= 0'
    ),
    'loss_weight is 0': set_to(f'{REVIEW}.loss.loss_weight', 0),
    'task_loss_weight is NaN': set_to(
        'model.task_loss_weight', math.nan, 'task_loss_weight', 'nan'
    ),
    'task_loss_weight is negative': in_detector(
        'model.task_loss_weight', -0.5, 'task_loss_weight', '-0.5'
    ),
    'warmup_epochs is NaN': set_to(f'{REVIEW}.warmup_epochs', math.nan, 'warmup_epochs=nan'),
    'warmup_epochs is infinite': set_to(f'{REVIEW}.warmup_epochs', math.inf, 'warmup_epochs=inf'),
    'warmup_epochs is negative': in_detector(f'{REVIEW}.warmup_epochs', -2, 'warmup_epochs=-2'),
    'warmup_epochs is huge': set_to(f'{REVIEW}.warmup_epochs', 10**9),
    'tau is 0': of_classifier(
        {'model.transfers': dict(kd=dict(logits(), loss=dict(type='KLDivergence', tau=0)))},
        'transfers.kd.loss',
        'tau=0',
    ),
    'tau is NaN': of_classifier(
        {'model.transfers': dict(kd=dict(logits(), loss=dict(type='DKDLoss', tau=math.nan)))},
        'transfers.kd.loss',
        'tau=nan',
    ),
    'alpha is negative': of_classifier(
        {'model.transfers': dict(kd=dict(logits(), loss=dict(type='DKDLoss', alpha=-1)))},
        'transfers.kd.loss',
        'alpha=-1',
    ),
    'level is 0': set_to(f'{REVIEW}.loss.levels', [4, 0], 'review.loss', 'levels=[4, 0]'),
    'level is negative': set_to(f'{REVIEW}.loss.levels', [-4], 'review.loss', 'levels=[-4]'),
    'level is larger than the maps': set_to(f'{REVIEW}.loss.levels', [4096, 2]),
    'mean is NaN': set_to(
        'model.student.data_preprocessor.mean', [math.nan, 0.0, 0.0], 'student', 'mean', 'nan'
    ),
    'mean of the teacher is infinite': in_detector(
        'model.teacher.data_preprocessor.mean', [0.0, math.inf, 0.0], 'teacher', 'mean', 'inf'
    ),
    'negatives of CRD': of_classifier(
        {
            'model.transfers': dict(
                crd=dict(
                    student='neck',
                    teacher='neck',
                    loss=dict(type='CRDLoss', num_samples=4, num_negatives=4),
                )
            )
        },
        'transfers.crd.loss',
        'num_negatives=4',
        'num_samples=4',
    ),
    'negatives of CRD are a word': of_classifier(
        {
            'model.transfers': dict(
                crd=dict(
                    student='neck',
                    teacher='neck',
                    loss=dict(type='CRDLoss', num_samples='4', num_negatives=2),
                )
            )
        },
        'transfers.crd.loss',
        "'num_samples': '4'",
    ),
    'max_epochs is 0': set_to('train_cfg.max_epochs', 0, 'train_cfg.max_epochs=0'),
    'max_epochs is negative': set_to('train_cfg.max_epochs', -1, 'train_cfg.max_epochs=-1'),
    'batch_size is 0': set_to(f'{TRAIN}.batch_size', 0, 'batch_size'),
    'lr is negative': of_library(set_to('optim_wrapper.optimizer.lr', -1.0, '-1.0')),
}

EMPTY = {
    'no transfer': set_to('model.transfers', {}, 'transfers={}', 'at least one transfer'),
    'transfer without keys': set_to(REVIEW, {}, 'transfers.review', 'missing'),
    'no student tap': set_to(f'{REVIEW}.student', [], 'review.student', 'at least one tap'),
    'no teacher tap': in_detector(f'{REVIEW}.teacher', [], 'review.teacher', 'at least one tap'),
    'no tap at all': of_classifier(
        {f'{REVIEW}.student': [], f'{REVIEW}.teacher': []}, 'review.student', 'at least one tap'
    ),
    'connector without keys': set_to(f'{REVIEW}.connector', {}, 'review.connector', "'type'"),
    'loss without keys': in_detector(f'{REVIEW}.loss', {}, 'review.loss', "'type'"),
    'tap without keys': set_to(f'{REVIEW}.student.0', {}, 'review.student', '{}'),
    'no levels': set_to(f'{REVIEW}.loss.levels', []),
    'no in_channels': set_to(f'{REVIEW}.connector.in_channels', [], 'in_channels=[]', '[4, 8'),
    'no base_channels': set_to(
        'model.student.backbone.base_channels', [], 'student', 'base_channels=[]'
    ),
    'no steps in the pipeline': set_to(f'{TRAIN}.dataset.pipeline', [], 'pipeline'),
    'no hooks': of_classifier({'custom_hooks': [], 'param_scheduler': []}),
    'no classes': in_detector(f'{TRAIN}.dataset.metainfo.classes', [], 'classes'),
    'no mean': set_to('model.student.data_preprocessor.mean', [], 'student', 'mean'),
    'no images': of_library(
        set_to(f'{TRAIN}.dataset.data_root', lambda files: files.empty_folder('none'), 'none')
    ),
    'no images of a class': of_library(
        set_to(f'{TRAIN}.dataset.data_root', lambda files: files.empty_folder('few/cat'), 'few')
    ),
    'no annotations': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(annotations=[]),
        'ann_file',
        'annotations=[]',
    ),
    'no images in the annotations': in_detector(
        f'{TRAIN}.dataset.ann_file', lambda files: files.annotations(images=[]), 'ann_file'
    ),
    'no indices': set_to(f'{TRAIN}.dataset.indices', [], 'indices'),
    'no student key': set_to('model', {}, 'model', "'type'"),
}

SWAPPED = {
    'swapped networks': of_classifier(
        {'model.student': teacher_classifier(), 'model.teacher': classifier()}
    ),
    'swapped detectors': of_detector(
        {'model.student': retinanet(width=6, channels=12), 'model.teacher': retinanet()}
    ),
    'swapped networks with a checkpoint': of_classifier(
        {
            'model.student': teacher_classifier(),
            'model.teacher': classifier(),
            'model.teacher_ckpt': lambda files: files.teacher(),
        },
        'teacher_ckpt=',
        'does not fit',
        '[8, 3, 3, 3]',
        '[4, 3, 3, 3]',
    ),
    'swapped taps': of_classifier(
        {f'{REVIEW}.student': [*BEFORE_RELU, 'neck'], f'{REVIEW}.teacher': STAGES}
    ),
    'taps from deep to shallow': set_to(f'{REVIEW}.student', STAGES[::-1]),
    'taps of both from deep to shallow': in_detector(
        f'{REVIEW}.student', [f'neck.fpn_convs.{i}.conv' for i in (4, 3, 2, 1, 0)]
    ),
    'the same tap twice': of_classifier({f'{REVIEW}.student': ['neck'] * 4}),
    'two transfers alike': of_classifier({'model.transfers': dict(one=review(), two=review())}),
    'two transfers alike of a detector': of_detector(
        {
            'model.transfers': dict(
                one=review(student='neck', teacher='neck'),
                two=review(student='neck', teacher='neck'),
            )
        }
    ),
    'transfer called cls': of_classifier(
        {'model.transfers': dict(cls=review())}, 'transfers.cls', 'loss_cls', 'rename'
    ),
    'transfer called bbox': of_detector(
        {'model.transfers': dict(bbox=review(student='neck', teacher='neck'))},
        'transfers.bbox',
        'loss_bbox',
        'rename',
    ),
    'transfer called keys': of_classifier(
        {'model.transfers': dict(keys=review())}, 'transfers.keys', 'choose another'
    ),
    'transfer with a hyphen': of_classifier(
        {'model.transfers': {'re-view': review()}}, 'transfers.re-view', 'letters'
    ),
    'transfer without a name': of_classifier(
        {'model.transfers': {'': review()}}, 'transfers.', 'letters'
    ),
    'student and teacher alike': of_classifier({'model.teacher': classifier()}),
    'a detector teaches a classifier': of_classifier(
        {'model.teacher': retinanet()}, 'review.connector', '(4)', '(8)'
    ),
    'a classifier teaches a detector': of_detector(
        {'model.teacher': teacher_classifier()}, 'review.connector', '(5)', '(1)'
    ),
    'a distiller as the student': of_classifier(
        {
            'model.student': dict(
                type='reviewkd_mm.Distiller', student={}, teacher={}, transfers={}
            )
        },
        'student',
    ),
}

UNKNOWN_NAMES = {
    'model': set_to('model.type', 'reviewkd_mm.Distillr', 'model.type', "'Distiller'"),
    'loss': set_to(f'{REVIEW}.loss.type', 'HCL', 'review.loss', "type='HCL'", "'HCLLoss'"),
    'loss of a detector': in_detector(
        f'{REVIEW}.loss.type', 'KLDivergnce', 'review.loss', "'KLDivergence'"
    ),
    'loss in a scope': set_to(
        f'{REVIEW}.loss.type', 'mmpretrain.HCLLos', 'review.loss', "'HCLLoss'"
    ),
    'connector': set_to(
        f'{REVIEW}.connector.type', 'ReviewConector', 'review.connector', "'ReviewConnector'"
    ),
    'connector in an unknown scope': in_detector(
        f'{REVIEW}.connector.type', 'kd.ReviewConnector', 'review.connector', "'ReviewConnector'"
    ),
    'tap': set_to(f'{REVIEW}.teacher.0.type', 'ModuleInput', 'review.teacher', "'ModuleInputs'"),
    'tap that is a loss': set_to(
        f'{REVIEW}.teacher.0.type', 'HCLLoss', 'review.teacher', 'no tap'
    ),
    'norm': set_to(f'{REVIEW}.connector.norm_cfg', dict(type='BM'), 'review.connector', "'BM'"),
    'student': set_to(
        'model.student.type', 'mmpretrain.ImageClasifier', 'student', "'ImageClassifier'"
    ),
    'teacher': in_detector('model.teacher.type', 'mmdet.RetinNet', 'teacher', "'RetinaNet'"),
    'teacher in an unknown scope': in_detector(
        'model.teacher.type', 'mdet.RetinaNet', 'teacher', 'mdet.RetinaNet'
    ),
    'backbone': set_to(
        'model.student.backbone.type',
        'reviewkd_mm.CIFARResnet',
        'student.backbone.type',
        "'CIFARResNet'",
    ),
    'backbone of a detector': in_detector(
        'model.teacher.backbone.type', 'ResNett', 'teacher.backbone.type', "'ResNet'"
    ),
    'neck': in_detector('model.student.neck.type', 'FPM', 'student.neck.type', "'FPN'"),
    'head': set_to(
        'model.teacher.head.type', 'LinearHead', 'teacher.head.type', "'LinearClsHead'"
    ),
    'loss of the head': set_to(
        'model.student.head.loss.type',
        'CrossEntropy',
        'student.head.loss.type',
        "'CrossEntropyLoss'",
    ),
    'assigner': in_detector(
        'model.student.train_cfg.assigner.type',
        'MaxIouAssigner',
        'student.train_cfg.assigner.type',
        "'MaxIoUAssigner'",
    ),
    'data_preprocessor': in_detector(
        'model.student.data_preprocessor.type', 'DetPreprocessor', 'student.data_preprocessor.type'
    ),
    'data set': set_to(
        f'{TRAIN}.dataset.type', 'CustomData', 'train_dataloader.dataset.type', "'CustomDataset'"
    ),
    'data set of a detector': in_detector(
        f'{TRAIN}.dataset.type', 'CocoDatset', 'train_dataloader.dataset.type', "'CocoDataset'"
    ),
    'transform': set_to(
        f'{TRAIN}.dataset.pipeline.0.type',
        'LoadImage',
        'dataset.pipeline.0.type',
        "'LoadImageFromFile'",
    ),
    'sampler': set_to(f'{TRAIN}.sampler.type', 'Sampler', 'train_dataloader.sampler.type'),
    'evaluator': set_to('val_evaluator.type', 'Acuracy', 'val_evaluator.type', "'Accuracy'"),
    'optimizer': set_to(
        'optim_wrapper.optimizer.type', 'SDG', 'optim_wrapper.optimizer.type', "'SGD'"
    ),
    'optim_wrapper': set_to(
        'optim_wrapper.type', 'OptWrapper', 'optim_wrapper.type', 'OptimWrapper'
    ),
    'scheduler': set_to('param_scheduler.0.type', 'MultistepLR', "'MultiStepLR'"),
    'hook': set_to('custom_hooks.0.type', 'EpochInfHook', 'custom_hooks.0.type', 'EpochInfHook'),
    'default hook': set_to('default_hooks.logger.type', 'LogHook', 'default_hooks.logger.type'),
    'default scope': of_classifier(
        {'default_scope': 'mmpretain'}, "'CustomDataset'", "'mmpretrain'", 'default_scope'
    ),
    'top-level key': of_classifier({'train_config': dict(max_epochs=2)}),
    'key of the distiller': set_to('model.transfer', {}, 'model', "'transfer'", "'transfers'"),
    'key of a transfer': set_to(f'{REVIEW}.conector', None, 'transfers.review', "'connector'"),
    'key of a loss': set_to(
        f'{REVIEW}.loss.weight', 2.0, 'review.loss', "'weight'", "'loss_weight'"
    ),
    'key of a connector': in_detector(
        f'{REVIEW}.connector.mid_chanels', 8, 'review.connector', "'mid_channels'"
    ),
    'key of a tap': set_to(
        f'{REVIEW}.teacher.0.src', 'neck', 'review.teacher', "'src'", "'source'"
    ),
    'key of a backbone': set_to(
        'model.student.backbone.dept', 8, 'student.backbone', "'dept'", "'depth'"
    ),
    'key of a neck': in_detector(
        'model.teacher.neck.num_out', 5, 'teacher.neck', "'num_out'", "'num_outs'"
    ),
    'key of an optimizer': set_to(
        'optim_wrapper.optimizer.learning_rate', 1.0, 'optim_wrapper.optimizer', "'learning_rate'"
    ),
    'key of train_cfg': set_to(
        'train_cfg.max_epoch', 3, 'train_cfg', "'max_epoch'", "'max_epochs'"
    ),
    'key of a data set': set_to(
        f'{TRAIN}.dataset.dataroot', 'x', 'train_dataloader.dataset', "'dataroot'", "'data_root'"
    ),
    'key of a transform': set_to(
        f'{TRAIN}.dataset.pipeline.0.colour', 'x', 'pipeline.0', "'colour'"
    ),
    'key of a dataloader': set_to(f'{TRAIN}.batchsize', 2, 'train_dataloader', "'batchsize'=2"),
}


class Files:
    """Makes the files of a mutation.

    Args:
        folder (Path): Where they go.
        data (Path): The folder of the good data.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder = folder
        self.data = data
        self.executed = folder / 'executed'

    def text(self, name: str, content: str) -> str:
        return self.bytes(name, content.encode())

    def bytes(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def empty_folder(self, name: str) -> str:
        folder = self.folder / name
        folder.mkdir(parents=True)
        return str(folder)

    def saved(self, content: object, **kwargs: Any) -> str:
        path = self.folder / 'teacher.pth'
        torch.save(content, path, **kwargs)
        return str(path)

    def teacher(self, change: Callable[[dict[str, Tensor]], object] = dict) -> str:
        """Save a good teacher's weights, changed."""
        weights = dict(build(teacher_classifier()).state_dict())
        change(weights)
        return self.saved(dict(state_dict=weights, meta=dict(epoch=3)))

    def student_of_nan(self) -> str:
        """Save a student's weights, some of them NaN."""
        weights = build(classifier()).state_dict()
        weights[FC].fill_(math.nan)
        return self.saved(weights)

    def truncated(self, share: float) -> str:
        path = Path(self.teacher())
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        return str(path)

    def flipped(self) -> str:
        """Save a teacher's weights with bytes changed in the middle of the file."""
        path = Path(self.teacher())
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
        path.write_bytes(content)
        return str(path)

    def malicious(self, **kwargs: Any) -> str:
        """Save weights with an object that makes a file when it is read."""
        return self.saved(dict(state_dict={}, meta=Malicious(str(self.executed))), **kwargs)

    def images(self, suffix: str = '.png') -> Path:
        return write_images(self.folder / f'images{suffix}', suffix)

    def image_with(self, change: Callable[[bytes], bytes], suffix: str = '.png') -> str:
        """Write images, one of them changed."""
        folder = self.images(suffix)
        file = folder / 'dog' / f'2{suffix}'
        file.write_bytes(change(file.read_bytes()))
        return str(folder)

    def annotations(self, change: Callable[[dict], object] = dict, **parts: Any) -> str:
        """Write the detector's annotations, changed."""
        good = self.data / 'shapes' / 'annotations' / 'instances_train.json'
        content = json.loads(good.read_text())
        change(content)
        return self.text('annotations.json', json.dumps({**content, **parts}))


class Malicious:
    """An object that makes a file when it is unpickled.

    Args:
        file (str): The file.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return open, (self.file, 'w')


def teacher_with(change: Callable[[dict[str, Tensor]], object], *expected: str) -> Case:
    """Train the classifiers with a teacher whose saved weights are changed."""
    return set_to('model.teacher_ckpt', lambda files: files.teacher(change), *expected)


def teacher_file(make: Callable[[Files], str], *expected: str) -> Case:
    return set_to('model.teacher_ckpt', make, *expected)


FC = 'head.fc.weight'

CHECKPOINTS = {
    'a good one': teacher_with(dict),
    'empty': teacher_file(lambda files: files.bytes('t.pth', b''), 't.pth', 'no readable'),
    'text': teacher_file(lambda files: files.text('t.pth', 'weights'), 't.pth', 'no readable'),
    'an HTML page': teacher_file(
        lambda files: files.text('t.pth', '<html>404 not found</html>'), 't.pth', 'no readable'
    ),
    'zeros': teacher_file(lambda files: files.bytes('t.pth', bytes(9999)), 't.pth', 'no readable'),
    'a broken pickle': teacher_file(
        lambda files: files.bytes('t.pth', b'\x80\x02broken'), 't.pth', 'no readable'
    ),
    'cut off after a tenth': teacher_file(
        lambda files: files.truncated(0.1), 'teacher_ckpt=', 'no readable'
    ),
    'cut off in the middle': teacher_file(
        lambda files: files.truncated(0.5), 'teacher_ckpt=', 'no readable'
    ),
    'cut off at the end': teacher_file(
        lambda files: files.truncated(0.999), 'teacher_ckpt=', 'no readable'
    ),
    'changed bytes': teacher_file(lambda files: files.flipped(), 'teacher_ckpt='),
    'a list': teacher_file(lambda files: files.saved([1, 2]), 'teacher_ckpt=', 'a dict', 'list'),
    'a tensor': teacher_file(
        lambda files: files.saved(torch.ones(2)), 'teacher_ckpt=', 'a dict', 'Tensor'
    ),
    'no weights': teacher_file(lambda files: files.saved({}), 'teacher_ckpt=', 'missing'),
    'weights are null': teacher_file(
        lambda files: files.saved(dict(state_dict=None)), 'teacher_ckpt=', 'NoneType'
    ),
    'weights are a list': teacher_file(
        lambda files: files.saved(dict(state_dict=[1])), 'teacher_ckpt=', 'list'
    ),
    'weights are lists': teacher_with(
        lambda weights: weights.update({FC: [1.0]}), 'teacher_ckpt=', FC
    ),
    'names are numbers': teacher_file(
        lambda files: files.saved({1: torch.ones(1)}), 'teacher_ckpt='
    ),
    'a weight too few': teacher_with(
        lambda weights: weights.pop(FC), 'teacher_ckpt=', f'1 missing ({FC})'
    ),
    'a weight too many': teacher_with(
        lambda weights: weights.update(extra=torch.ones(1)),
        'teacher_ckpt=',
        '1 unexpected (extra)',
    ),
    'another shape': teacher_with(
        lambda weights: weights.update({FC: torch.ones(9, 32)}), 'teacher_ckpt=', FC, '[9, 32]'
    ),
    'a weight is NaN': teacher_with(
        lambda weights: weights[FC].fill_(math.nan), 'teacher_ckpt=', FC, 'finite'
    ),
    'a weight is infinite': teacher_with(
        lambda weights: weights['backbone.conv1.weight'].fill_(math.inf), 'backbone.conv1.weight'
    ),
    'a variance is NaN': teacher_with(
        lambda weights: weights['backbone.bn1.running_var'].fill_(math.nan), 'bn1.running_var'
    ),
    'half precision': teacher_with(
        lambda weights: weights.update({k: v.half() for k, v in weights.items()})
    ),
    'double precision': teacher_with(lambda weights: weights.update({FC: weights[FC].double()})),
    'integers': teacher_with(lambda weights: weights.update({FC: weights[FC].int()})),
    'a checkpoint of a detector': teacher_file(
        lambda files: files.saved(build(retinanet()).state_dict()), 'teacher_ckpt=', 'does not fit'
    ),
    'code in it': teacher_file(
        lambda files: files.malicious(), 'teacher_ckpt=', 'could run code', 'trust_checkpoint'
    ),
    'code in an old file': teacher_file(
        lambda files: files.malicious(_use_new_zipfile_serialization=False),
        'teacher_ckpt=',
        'could run code',
        'trust_checkpoint',
    ),
    'code in load_from': of_classifier(
        {'load_from': lambda files: files.malicious()}, 'could run code', '--trust-checkpoint'
    ),
    'code in what is resumed': of_classifier(
        {'load_from': lambda files: files.malicious(), 'resume': True},
        'could run code',
        '--trust-checkpoint',
    ),
    'code in pretrained weights': set_to(
        'model.student.backbone.init_cfg',
        lambda files: dict(type='Pretrained', checkpoint=files.malicious()),
        'could run code',
    ),
    'a whole model': teacher_file(
        lambda files: files.saved(torch.nn.Linear(1, 1)), 'could run code', 'torch.nn'
    ),
    'load_from is damaged': of_classifier(
        {'load_from': lambda files: files.truncated(0.5)}, 'load_from', 'teacher.pth'
    ),
    'load_from of another network': of_classifier(
        {'load_from': lambda files: files.teacher()}, 'does not fit'
    ),
    'load_from is NaN': of_classifier(
        {'load_from': lambda files: files.student_of_nan()}, 'finite', FC
    ),
}

DATA = {
    'a cut PNG': set_to(
        f'{TRAIN}.dataset.data_root',
        lambda files: files.image_with(lambda content: content[:700]),
        'dog/2.png',
    ),
    'a cut JPEG': set_to(
        f'{TRAIN}.dataset.data_root',
        lambda files: files.image_with(lambda content: content[:200], '.jpg'),
        'dog/2.jpg',
    ),
    'a JPEG cut near its end': set_to(
        f'{TRAIN}.dataset.data_root',
        lambda files: files.image_with(lambda content: content[:-100], '.jpg'),
        'dog/2.jpg',
    ),
    'an empty image': set_to(
        f'{TRAIN}.dataset.data_root', lambda files: files.image_with(lambda _: b''), 'dog/2.png'
    ),
    'text as an image': set_to(
        f'{TRAIN}.dataset.data_root',
        lambda files: files.image_with(lambda _: b'no image', '.jpg'),
        'dog/2.jpg',
    ),
    'a cut image in the validation': set_to(
        f'{VAL}.dataset.data_root',
        lambda files: files.image_with(lambda content: content[:100]),
        'dog/2.png',
    ),
    'annotations are text': in_detector(
        f'{TRAIN}.dataset.ann_file', lambda files: files.text('a.json', 'boxes'), 'a.json'
    ),
    'annotations are empty': in_detector(
        f'{TRAIN}.dataset.ann_file', lambda files: files.text('a.json', ''), 'a.json'
    ),
    'annotations are cut': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.text('a.json', Path(files.annotations()).read_text()[:500]),
        'a.json',
    ),
    'annotations are a list': in_detector(
        f'{TRAIN}.dataset.ann_file', lambda files: files.text('a.json', '[1, 2]'), 'a.json'
    ),
    'annotations without categories': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(lambda content: content.pop('categories')),
        'categories',
    ),
    'annotations without images': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(lambda content: content.pop('images')),
        'images',
    ),
    'annotations without annotations': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(lambda content: content.pop('annotations')),
        'annotations',
    ),
    'an image that is not there': of_library(
        in_detector(
            f'{TRAIN}.dataset.ann_file',
            lambda files: files.annotations(
                lambda content: content['images'][0].update(file_name='gone.png')
            ),
            'gone.png',
        )
    ),
    'an annotation of no image': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(
            lambda content: content['annotations'][0].update(image_id=99)
        ),
    ),
    'an unknown category': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(
            lambda content: content['annotations'][0].update(category_id=99)
        ),
    ),
    'a box without a size': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(
            lambda content: content['annotations'][0].update(bbox=[3, 3, 0, 0])
        ),
    ),
    'a box of three numbers': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(
            lambda content: content['annotations'][0].update(bbox=[3, 3, 9])
        ),
        'annotations.json',
        'bbox',
    ),
    'a box of NaN': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(
            lambda content: content['annotations'][0].update(bbox=[math.nan, 3, 9, 9])
        ),
        'annotations.json',
        'bbox',
    ),
    'a class that is misspelt': in_detector(
        f'{TRAIN}.dataset.metainfo.classes',
        ['circle', 'rectngle', 'triangle'],
        "'rectngle'",
        "'rectangle'",
    ),
    'more classes than the head has': in_detector(
        f'{TRAIN}.dataset.metainfo.classes',
        ['circle', 'rectangle', 'triangle', 'square'],
        'square',
    ),
    'a head with fewer classes': in_detector(
        'model.student.bbox_head.num_classes', 1, 'num_classes', '3'
    ),
}

CLASSES_OF_MUTATIONS = {
    'wrong types': WRONG_TYPES,
    'missing keys': MISSING_KEYS,
    'wrong paths': WRONG_PATHS,
    'wrong shapes': WRONG_SHAPES,
    'numbers': NUMBERS,
    'empty': EMPTY,
    'swapped and duplicate': SWAPPED,
    'unknown names': UNKNOWN_NAMES,
    'checkpoints': CHECKPOINTS,
    'data': DATA,
}
CASES = {
    f'{kind}: {name}': case
    for kind, cases in CLASSES_OF_MUTATIONS.items()
    for name, case in cases.items()
}


def check(case: Case, data: Path, folder: Path) -> None:
    """Train with a mutated config and assert that it ends as it should.

    Nothing in the work dir is lost, and no code in a checkpoint has run.

    Args:
        case (Case): The mutation.
        data (Path): The good data.
        folder (Path): An empty folder.
    """
    files = Files(folder, data)
    change = {
        key: value(files) if callable(value) else value for key, value in case.change.items()
    }
    cfg = changed(base_config(case.pair, data), change)
    ending = train(cfg, folder, *case.options)
    assert not files.executed.exists(), 'the code in the checkpoint has run'
    assert not ending.lost
    if case.expected == TRAINS:
        assert ending.kind == 'trained', ending.message
        assert (folder / 'work' / 'student_last.pth').stat().st_size > 100
        return
    assert ending.kind == case.kind, ending.message
    missing = [part for part in case.expected if part not in ending.message]
    assert not missing, ending.message
