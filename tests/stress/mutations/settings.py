"""Values that are of a wrong kind, missing, out of range or empty."""

from __future__ import annotations

import math

from tests.models.distillers.helpers import (
    STAGES,
    logits,
    review,
)
from tests.stress.mutations.case import (
    REVIEW,
    TRAIN,
    VAL,
    in_detector,
    of_classifier,
    set_to,
)
from tests.stress.trainings import REMOVED

WRONG_TYPES = {
    'student is a number': set_to('model.student', 3, 'student=3', 'expected a model config'),
    'teacher is a number': set_to('model.teacher', 1.5, 'teacher=1.5', 'expected a model config'),
    'student without keys': set_to('model.student', {}, 'student', "the key 'type'"),
    'teacher_ckpt is a list': set_to(
        'model.teacher_ckpt', ['random'], 'teacher_ckpt=', 'expected'
    ),
    'teacher_ckpt is empty': set_to('model.teacher_ckpt', '', 'teacher_ckpt', "'random'"),
    'transfers is a list': set_to('model.transfers', [review()], 'transfers=[', 'expected a dict'),
    'transfer is a name': set_to(REVIEW, 'neck', 'transfers.review', "'neck'", 'expected a dict'),
    'tap is a number': set_to(f'{REVIEW}.student', 7, 'transfers.review.student', '7', 'path'),
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
    'connector is a name': set_to(
        f'{REVIEW}.connector', 'ReviewConnector', 'review.connector', "'ReviewConnector'", "'type'"
    ),
    'loss is a name': set_to(f'{REVIEW}.loss', 'HCLLoss', 'review.loss', "'HCLLoss'", "'type'"),
    'loss type is a number': set_to(f'{REVIEW}.loss.type', 4, 'review.loss', 'type=4', 'expected'),
    'loss_weight is a word': set_to(
        f'{REVIEW}.loss.loss_weight', '5', 'review.loss', "loss_weight='5'", 'finite number'
    ),
    'loss_weight is true': set_to(
        f'{REVIEW}.loss.loss_weight', True, 'review.loss', 'loss_weight=True', 'number'
    ),
    'levels is a number': set_to(f'{REVIEW}.loss.levels', 4, 'review.loss', 'levels=4'),
    'levels holds a fraction': set_to(
        f'{REVIEW}.loss.levels', [4, 2.5], 'review.loss', 'levels=[4, 2.5]', 'positive integers'
    ),
    'mid_channels is a word': set_to(
        f'{REVIEW}.connector.mid_channels', '8', 'review.connector', "mid_channels='8'", 'integer'
    ),
    'norm_cfg is a name': set_to(
        f'{REVIEW}.connector.norm_cfg',
        'BN',
        'review.connector',
        'assert',
        'norm_cfg',
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
    'task_loss_weight is a word': set_to(
        'model.task_loss_weight', 'one', 'task_loss_weight', "'one'", 'finite number'
    ),
    'teacher_train_bn is a word': set_to(
        'model.teacher_train_bn', 'False', "teacher_options: train_bn='False'", 'True or False'
    ),
    'teacher_dtype is unknown': in_detector(
        'model.teacher_options', dict(dtype='float16'), "dtype='float16'", "'fp16'"
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
    'num_classes is a word': set_to(
        'model.student.head.num_classes', 'five', 'student: TypeError', 'num_classes'
    ),
    'channels are one number': in_detector(
        'model.student.neck.in_channels', 4, 'student: AssertionError', 'in_channels'
    ),
}

MISSING_KEYS = {
    'no model': of_classifier({'model': REMOVED}, 'model=None', "the key 'type'"),
    'model without a type': set_to('model.type', REMOVED, 'model', "'type'"),
    'no teacher': set_to('model.teacher', REMOVED, 'model: ', "'teacher' is missing"),
    'no checkpoint': set_to('model.teacher_ckpt', REMOVED, 'no known checkpoint', "'random'"),
    'transfer without student': set_to(
        f'{REVIEW}.student', REMOVED, 'transfers.review', "'student' is missing"
    ),
    'loss without a type': set_to(f'{REVIEW}.loss.type', REMOVED, 'review.loss', "the key 'type'"),
    'connector without a type': set_to(
        f'{REVIEW}.connector.type', REMOVED, 'review.connector', "the key 'type'"
    ),
    'tap without a type': set_to(
        f'{REVIEW}.teacher.0.type', REMOVED, 'transfers.review.teacher', "type='ModuleInputs'"
    ),
    'student without a type': set_to('model.student.type', REMOVED, 'student', "the key 'type'"),
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
    'neck without in_channels': in_detector(
        'model.teacher.neck.in_channels', REMOVED, 'teacher: ', "'in_channels'", 'FPN'
    ),
    'detector without a head': in_detector('model.student.bbox_head', REMOVED, 'student'),
    'detector without a neck': in_detector(
        'model.student.neck', REMOVED, 'student: ', "'neck'", 'RetinaNet'
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

NUMBERS = {
    'loss_weight is NaN': set_to(
        f'{REVIEW}.loss.loss_weight', math.nan, 'review.loss', 'loss_weight=nan', 'finite'
    ),
    'loss_weight is negative': set_to(
        f'{REVIEW}.loss.loss_weight', -1, 'review.loss', 'loss_weight=-1', '>= 0'
    ),
    'loss_weight is 0': set_to(f'{REVIEW}.loss.loss_weight', 0),
    'task_loss_weight is NaN': set_to(
        'model.task_loss_weight', math.nan, 'task_loss_weight', 'nan'
    ),
    'warmup_epochs is NaN': set_to(f'{REVIEW}.warmup_epochs', math.nan, 'warmup_epochs=nan'),
    'warmup_epochs is huge': set_to(f'{REVIEW}.warmup_epochs', 10**9),
    'tau is 0': of_classifier(
        {'model.transfers': dict(kd=dict(logits(), loss=dict(type='KLDivergence', tau=0)))},
        'transfers.kd.loss',
        'tau=0',
    ),
    'alpha is negative': of_classifier(
        {'model.transfers': dict(kd=dict(logits(), loss=dict(type='DKDLoss', alpha=-1)))},
        'transfers.kd.loss',
        'alpha=-1',
    ),
    'level is 0': set_to(f'{REVIEW}.loss.levels', [4, 0], 'review.loss', 'levels=[4, 0]'),
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
        "num_samples='4'",
    ),
    'max_epochs is 0': set_to('train_cfg.max_epochs', 0, 'train_cfg.max_epochs=0'),
    'batch_size is 0': set_to(f'{TRAIN}.batch_size', 0, 'batch_size'),
    'lr is negative': set_to(
        'optim_wrapper.optimizer.lr', -1.0, 'optim_wrapper.optimizer', '-1.0'
    ),
}

EMPTY = {
    'no transfer': set_to('model.transfers', {}, 'transfers={}', 'at least one transfer'),
    'no student tap': set_to(f'{REVIEW}.student', [], 'review.student', 'at least one tap'),
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
    'no images': set_to(
        f'{TRAIN}.dataset.data_root',
        lambda files: files.empty_folder('none'),
        'train_dataloader.dataset.data_root',
        'none',
    ),
    'no annotations': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(annotations=[]),
        'ann_file',
        'annotations=[]',
    ),
    'no indices': set_to(f'{TRAIN}.dataset.indices', [], 'indices'),
    'no images in the annotations': in_detector(
        f'{TRAIN}.dataset.ann_file', lambda files: files.annotations(images=[]), 'ann_file'
    ),
}
