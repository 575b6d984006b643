"""Networks, connectors and losses that do not fit, are swapped, or do not exist."""

from __future__ import annotations

from tests.integration.detection import retinanet
from tests.models.distillers.helpers import (
    BEFORE_RELU,
    STAGES,
    classifier,
    logits,
    review,
    teacher_classifier,
)
from tests.stress.mutations.case import (
    REVIEW,
    TRAIN,
    in_detector,
    of_classifier,
    of_detector,
    set_to,
)

WRONG_SHAPES = {
    'fewer student taps': set_to(
        f'{REVIEW}.student', STAGES[:3], 'review.connector', '[4, 8, 16] (3)', '(4)'
    ),
    'no connector': set_to(f'{REVIEW}.connector', None, 'review.loss', 'stage 0', 'connector'),
    'in_channels': set_to(
        f'{REVIEW}.connector.in_channels', [4, 8, 16, 32], 'in_channels=[4, 8, 16, 32]', '16, 16]'
    ),
    'in_channels is one number': set_to(
        f'{REVIEW}.connector.in_channels', 4, 'in_channels=4', '[4, 8, 16, 16]'
    ),
    'mid_channels is 0': set_to(
        f'{REVIEW}.connector.mid_channels', 0, 'review.connector', 'mid_channels=0'
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
        f'{REVIEW}.connector', dict(type='ABF', mid_channels=8), 'review.connector', 'TypeError'
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
    'channels of the head': set_to(
        'model.student.head.in_channels', 99, 'student.head.in_channels=99', 'expected'
    ),
    'channels of the neck': in_detector(
        'model.student.neck.in_channels', [4, 8, 16, 31], 'student', '31'
    ),
    'channels of the head of a detector': in_detector(
        'model.student.bbox_head.in_channels', 5, 'student.bbox_head.in_channels=5'
    ),
    'mean of two channels': set_to(
        'model.student.data_preprocessor.mean', [1.0, 2.0], 'student', 'mean'
    ),
    'std of zero': set_to(
        'model.teacher.data_preprocessor.std', [0.0, 1.0, 1.0], 'teacher', 'std', '0.0'
    ),
    'grey images for the teacher': set_to(
        'model.teacher.backbone.in_channels', 1, 'teacher', 'in_channels'
    ),
    'classes of the data': set_to(
        'model.student.head.num_classes', 1, 'model.student.head.num_classes=1', 'expected 2'
    ),
}

SWAPPED = {
    'swapped networks': of_classifier(
        {'model.student': teacher_classifier(), 'model.teacher': classifier()}
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
    'the same tap twice': of_classifier({f'{REVIEW}.student': ['neck'] * 4}),
    'two transfers alike': of_classifier({'model.transfers': dict(one=review(), two=review())}),
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
    'transfer without a name': of_classifier(
        {'model.transfers': {'': review()}}, 'transfers.', 'letters'
    ),
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
    'connector': set_to(
        f'{REVIEW}.connector.type', 'ReviewConector', 'review.connector', "'ReviewConnector'"
    ),
    'connector in an unknown scope': in_detector(
        f'{REVIEW}.connector.type',
        'kd.ReviewConnector',
        'review.connector',
        "'reviewkd_mm.ReviewConnector'",
    ),
    'tap': set_to(f'{REVIEW}.teacher.0.type', 'ModuleInput', 'review.teacher', "'ModuleInputs'"),
    'tap that is a loss': set_to(
        f'{REVIEW}.teacher.0.type', 'HCLLoss', 'review.teacher', 'HCLLoss', "'source'"
    ),
    'norm': set_to(f'{REVIEW}.connector.norm_cfg', dict(type='BM'), 'review.connector', "'BM'"),
    'student': set_to(
        'model.student.type', 'mmpretrain.ImageClasifier', 'student', "'ImageClassifier'"
    ),
    'teacher': in_detector('model.teacher.type', 'mmdet.RetinNet', 'teacher', "'RetinaNet'"),
    'backbone of a detector': in_detector(
        'model.teacher.backbone.type', 'ResNett', 'teacher.backbone.type', "'ResNet'"
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
    'transform': set_to(
        f'{TRAIN}.dataset.pipeline.0.type',
        'LoadImage',
        'dataset.pipeline.0.type',
        "'LoadImageFromFile'",
    ),
    'optimizer': set_to(
        'optim_wrapper.optimizer.type', 'SDG', 'optim_wrapper.optimizer.type', "'SGD'"
    ),
    'scheduler': set_to('param_scheduler.0.type', 'MultistepLR', "'MultiStepLR'"),
    'hook': set_to('custom_hooks', [dict(type='EMAHok')], 'custom_hooks.0.type', 'EMAHok'),
    'default scope': of_classifier(
        {'default_scope': 'mmpretain'}, "'CustomDataset'", "'mmpretrain'", 'default_scope'
    ),
    'top-level key': of_classifier({'train_config': dict(max_epochs=2)}),
    'key of the distiller': set_to('model.transfer', {}, 'model', "'transfer'", "'transfers'"),
    'key of a transfer': set_to(f'{REVIEW}.conector', None, 'transfers.review', "'connector'"),
    'key of a loss': set_to(
        f'{REVIEW}.loss.weight', 2.0, 'review.loss', "'weight'", "'loss_weight'"
    ),
    'key of a tap': set_to(
        f'{REVIEW}.teacher.0.src', 'neck', 'review.teacher', "'src'", "'source'"
    ),
    'key of a backbone': set_to(
        'model.student.backbone.dept', 8, 'student.backbone', "'dept'", "'depth'"
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
}
