"""Files that are missing, damaged or dangerous: configs, checkpoints, images, annotations."""

from __future__ import annotations

import math

import torch

from tests.integration.detection import retinanet
from tests.models.distillers.helpers import (
    build,
)
from tests.stress.mutations.case import (
    FC,
    NO_CHECKPOINT,
    REVIEW,
    TRAIN,
    VAL,
    in_detector,
    of_classifier,
    of_library,
    set_to,
    teacher_file,
    teacher_with,
)

WRONG_PATHS = {
    'student tap': set_to(
        f'{REVIEW}.student.1', 'backbone.layr2', 'review.student', "did you mean 'backbone.layer2'"
    ),
    'teacher tap': in_detector(f'{REVIEW}.teacher', 'nek', 'review.teacher', "mean 'neck'"),
    'tap of a block too many': set_to(
        f'{REVIEW}.teacher.0.source', 'backbone.layer1.4.relu', 'review.teacher', '0 to 0'
    ),
    'tap of nothing': set_to(f'{REVIEW}.student.0', '', 'review.student', "''", 'path'),
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
        'model.teacher_ckpt', lambda files: str(files.folder), 'teacher_ckpt=', 'a folder'
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

CHECKPOINTS = {
    'a good one': teacher_with(dict),
    'empty': teacher_file(lambda files: files.bytes('t.pth', b''), 't.pth', 'no readable'),
    'a broken pickle': teacher_file(
        lambda files: files.bytes('t.pth', b'\x80\x02broken'), 't.pth', 'no readable'
    ),
    'cut off in the middle': teacher_file(
        lambda files: files.truncated(0.5), 'teacher_ckpt=', 'no readable'
    ),
    'changed bytes': teacher_file(lambda files: files.flipped(), 'teacher_ckpt='),
    'a list': teacher_file(lambda files: files.saved([1, 2]), 'teacher_ckpt=', 'a dict', 'list'),
    'no weights': teacher_file(lambda files: files.saved({}), 'teacher_ckpt=', 'missing'),
    'weights are null': teacher_file(
        lambda files: files.saved(dict(state_dict=None)), 'teacher_ckpt=', 'NoneType'
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
    'a variance is NaN': teacher_with(
        lambda weights: weights['backbone.bn1.running_var'].fill_(math.nan), 'bn1.running_var'
    ),
    'half precision': teacher_with(
        lambda weights: weights.update({k: v.half() for k, v in weights.items()})
    ),
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
    'a cut PNG': of_library(
        set_to(
            f'{TRAIN}.dataset.data_root',
            lambda files: files.image_with(lambda content: content[:700]),
            'dog/2.png',
        )
    ),
    'a JPEG cut near its end': of_library(
        set_to(
            f'{TRAIN}.dataset.data_root',
            lambda files: files.image_with(lambda content: content[:-100], '.jpg'),
            'dog/2.jpg',
        )
    ),
    'an empty image': set_to(
        f'{TRAIN}.dataset.data_root', lambda files: files.image_with(lambda _: b''), 'dog/2.png'
    ),
    'a cut image in the validation': of_library(
        set_to(
            f'{VAL}.dataset.data_root',
            lambda files: files.image_with(lambda content: content[:100]),
            'dog/2.png',
        )
    ),
    'annotations are text': in_detector(
        f'{TRAIN}.dataset.ann_file', lambda files: files.text('a.json', 'boxes'), 'a.json'
    ),
    'annotations are a list': in_detector(
        f'{TRAIN}.dataset.ann_file', lambda files: files.text('a.json', '[1, 2]'), 'a.json'
    ),
    'annotations without categories': in_detector(
        f'{TRAIN}.dataset.ann_file',
        lambda files: files.annotations(lambda content: content.pop('categories')),
        'categories',
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
        'bbox_head.num_classes=3: expected 4',
    ),
    'a head with fewer classes': in_detector(
        'model.student.bbox_head.num_classes', 1, 'num_classes', '3'
    ),
}
