"""A wrong setting fails while the distiller is built, with a message that helps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.models.distillers.helpers import (
    STAGES,
    batch,
    build_distiller,
    classifier,
    logits,
    review,
    teacher_classifier,
)


def with_review(**kwargs) -> dict:
    return dict(transfers=dict(review=review(**kwargs)))


def with_connector(**kwargs) -> dict:
    return with_review(connector=dict(dict(type='ReviewConnector'), **kwargs))


def with_loss(**kwargs) -> dict:
    return with_review(loss=dict(dict(type='HCLLoss'), **kwargs))


def without(key: str) -> dict:
    transfer = review()
    del transfer[key]
    return dict(transfers=dict(review=transfer))


ONE_LOGIT = dict(type='MultiLabelLinearClsHead', num_classes=1)

CASES = {
    'student path': (
        with_review(student=['backbone.layer1', 'backbone.layr2', *STAGES[2:]]),
        ['transfers.review.student', "'backbone.layr2'", "did you mean 'backbone.layer2'"],
    ),
    'teacher path': (
        with_review(teacher=['bakbone.layer1', *STAGES[1:]]),
        ['transfers.review.teacher', "'bakbone.layer1'", "did you mean 'backbone'"],
    ),
    'path of a block that is not there': (
        with_review(teacher=['backbone.layer1.4', *STAGES[1:]]),
        ['transfers.review.teacher', "'backbone.layer1.4'", '0 to 0', '-1 for the last'],
    ),
    'path below a leaf': (
        with_review(student='head.fc.weight', teacher='head'),
        ['transfers.review.student', "'head.fc' (Linear)", 'no children'],
    ),
    'no tap': (
        with_review(student=[]),
        ['transfers.review.student', 'at least one tap'],
    ),
    'a tap that is no path': (
        with_review(student=7),
        ['transfers.review.student', 'a module path or a dict', '7'],
    ),
    'a tap of an unknown type': (
        with_review(student=dict(type='ModuleOutput', source='neck')),
        ['transfers.review.student', 'ModuleOutput'],
    ),
    'a call that never comes': (
        with_review(student=[dict(type='ModuleOutputs', source='neck', call=2), *STAGES[1:]]),
        ['transfers.review.student', "'neck'", 'call=2', '1 times'],
    ),
    'a call that is no number': (
        with_review(student=dict(type='ModuleOutputs', source='neck', call='last')),
        ['transfers.review.student', "call='last'", 'index of a call'],
    ),
    'number of stages': (
        with_review(student=STAGES[:3]),
        [
            'transfers.review.connector',
            'in_channels=[4, 8, 16] (3)',
            'out_channels=[8, 16, 32, 32] (4)',
        ],
    ),
    'number of features without a connector': (
        with_review(student=STAGES[:2], teacher=STAGES[:3], connector=None),
        ['transfers.review.loss', 'got 2 and 3'],
    ),
    'shapes without a connector': (
        with_review(connector=None),
        ['transfers.review.loss', 'stage 0', '(1, 4, 64, 64)', '(1, 8, 64, 64)', 'connector'],
    ),
    'in_channels': (
        with_connector(in_channels=[4, 8, 16, 32]),
        ['transfers.review.connector', 'in_channels=[4, 8, 16, 32]', '[4, 8, 16, 16]'],
    ),
    'out_channels': (
        with_connector(out_channels=[8, 16, 32]),
        ['transfers.review.connector', 'out_channels=[8, 16, 32]', '[8, 16, 32, 32]'],
    ),
    'one number for several taps': (
        with_connector(in_channels=4),
        ['transfers.review.connector', 'in_channels=4', '[4, 8, 16, 16]'],
    ),
    'connector type': (
        with_connector(type='ReviewConector'),
        ['transfers.review.connector', "type='ReviewConector'", "did you mean 'ReviewConnector'"],
    ),
    'connector type in a scope': (
        with_connector(type='reviewkd_mm.ReviewConector'),
        ['transfers.review.connector', "did you mean 'ReviewConnector'"],
    ),
    'connector type in an unknown scope': (
        with_connector(type='reviewkd.ReviewConnector'),
        ['transfers.review.connector', "type='reviewkd.ReviewConnector'", "'ReviewConnector'"],
    ),
    'connector argument': (
        with_connector(mid_chanels=3),
        ['transfers.review.connector', 'mid_chanels'],
    ),
    'connector without a type': (
        with_review(connector=dict(mid_channels=3)),
        ['transfers.review.connector', "the key 'type'", 'mid_channels'],
    ),
    'loss type': (
        with_loss(type='HCL'),
        ['transfers.review.loss', "type='HCL'", "did you mean 'HCLLoss'"],
    ),
    'loss argument': (
        with_loss(lvels=(4, 2)),
        ['transfers.review.loss', 'lvels'],
    ),
    'level': (
        with_loss(levels=(4, 0)),
        ['transfers.review.loss', 'levels=(4, 0)', 'positive integers', '0'],
    ),
    'loss_weight': (
        with_loss(loss_weight=math.nan),
        ['transfers.review.loss', 'loss_weight=nan', 'finite number'],
    ),
    'loss as a name': (
        with_review(loss='HCLLoss'),
        ['transfers.review.loss', "the key 'type'", "'HCLLoss'"],
    ),
    'loss of features on logits': (
        dict(transfers=dict(kd=dict(logits(), student='backbone.layer1'))),
        ['transfers.kd.loss', 'logits', '(1, 4, 64, 64)'],
    ),
    'softmax of one logit': (
        dict(
            student=classifier(head=dict(ONE_LOGIT, in_channels=16)),
            teacher=teacher_classifier(head=dict(ONE_LOGIT, in_channels=32)),
            transfers=dict(kd=logits()),
        ),
        ['transfers.kd.loss', '2 classes or more, got 1', 'use_sigmoid=True'],
    ),
    'key of a transfer': (
        with_review(conector=None),
        ['transfers.review', "'conector'", "did you mean 'connector'"],
    ),
    'missing student': (without('student'), ['transfers.review', "the key 'student' is missing"]),
    'missing teacher': (without('teacher'), ['transfers.review', "the key 'teacher' is missing"]),
    'missing loss': (without('loss'), ['transfers.review', "the key 'loss' is missing"]),
    'transfer that is no dict': (
        dict(transfers=dict(review='neck')),
        ['transfers.review', 'expected a dict', "'neck'"],
    ),
    'no transfers': (dict(transfers={}), ['transfers={}', 'at least one transfer']),
    'transfers as a list': (dict(transfers=[review()]), ['transfers=[', 'expected a dict']),
    'warmup_epochs below 0': (
        with_review(warmup_epochs=-1),
        ['transfers.review', 'warmup_epochs=-1', 'number of epochs >= 0'],
    ),
    'warmup_epochs as text': (
        with_review(warmup_epochs='20'),
        ['transfers.review', "warmup_epochs='20'", 'number of epochs'],
    ),
    'warmup_epochs without end': (
        with_review(warmup_epochs=math.inf),
        ['transfers.review', 'warmup_epochs=inf'],
    ),
    'task_loss_weight': (
        dict(task_loss_weight=-1),
        ['task_loss_weight', '-1', 'finite number'],
    ),
    'checkpoint': (
        dict(teacher_ckpt='/nowhere/resnet56.pth'),
        ["teacher_ckpt='/nowhere/resnet56.pth'", 'no such file', 'configs/baselines'],
    ),
    'no checkpoint': (
        dict(teacher_ckpt=None),
        ['teacher=', 'no known checkpoint', "'random'"],
    ),
    'student config': (
        dict(student='reviewkd_mm::baselines/resnet22_cifar100.py'),
        ['student=', 'no such config file', 'resnet20_cifar100.py'],
    ),
    'teacher config': (
        dict(teacher='mmpretrain::resnett/resnet18_8xb32_in1k.py'),
        ['teacher=', 'no such config file', "'resnet'"],
    ),
    'student that is no model': (dict(student=3), ['student=3', 'expected a model config']),
}


@pytest.mark.parametrize(('options', 'parts'), CASES.values(), ids=CASES.keys())
def test_errors_name_the_key_the_value_and_what_was_expected(options, parts):
    with pytest.raises(Exception) as caught:  # noqa: PT011  (the message is what counts)
        build_distiller(**options)

    message = str(caught.value)
    missing = [part for part in parts if part not in message]
    assert not missing, message


def test_a_built_model_that_lacks_the_tap():
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Conv2d(3, 4, 1)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.backbone(inputs)

    with pytest.raises(ValueError, match=r"transfers\.review\.teacher: .*'neck': Plain has no"):
        build_distiller(teacher=Plain(), teacher_ckpt=None, **with_review(teacher='neck'))


class Needy(nn.Module):
    """A neck of a package that is not installed."""

    def __init__(self) -> None:
        raise ImportError('the package of this neck is not installed')


def test_a_part_whose_package_is_not_installed():
    with pytest.raises(ValueError, match=r'^student: .*the package of this neck is not'):
        build_distiller(student=classifier(neck=dict(type=Needy)))


def test_a_batch_of_several_views_is_refused():
    inputs, samples = batch()

    with pytest.raises(RuntimeError, match=r'student: its data_preprocessor gives a list'):
        build_distiller().loss([inputs, inputs], samples)


def test_an_error_leaves_the_random_state():
    torch.manual_seed(0)
    state = torch.get_rng_state()

    with pytest.raises(ValueError, match='there is no module'):
        build_distiller(student=nn.Identity(), **with_review())

    assert torch.equal(torch.get_rng_state(), state)
