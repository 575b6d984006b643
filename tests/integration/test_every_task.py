"""One transfer for every task: what the distiller is told does not depend on what it trains."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tests.integration.detection import faster_rcnn, mask_rcnn, raw_batch, retinanet
from tests.models.distillers.helpers import NUM_CLASSES, build_distiller, total

STAGES = [f'backbone.layer{stage}' for stage in (1, 2, 3, 4)]
TRANSFERS = dict(
    review=dict(
        student=STAGES,
        teacher=STAGES,
        connector=dict(type='ReviewConnector'),
        loss=dict(type='HCLLoss', loss_weight=1.0),
    )
)


def classifier(width: int) -> dict:
    """Config of MMPretrain's ImageClassifier with a thin ResNet-18."""
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=width, stem_channels=width),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=NUM_CLASSES,
            in_channels=8 * width,
            loss=dict(type='CrossEntropyLoss'),
        ),
        data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3),
    )


def labelled_images() -> dict[str, Any]:
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 64, 64), generator=generator, dtype=torch.uint8)
    return dict(inputs=images, data_samples=[DataSample().set_gt_label(i) for i in range(4)])


@pytest.mark.parametrize(
    ('model', 'batch', 'task_losses'),
    [
        (classifier, labelled_images, {'loss_cls'}),
        (retinanet, raw_batch, {'loss_cls', 'loss_bbox'}),
        (
            mask_rcnn,
            raw_batch,
            {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask', 'acc'},
        ),
    ],
    ids=['classifier', 'detector', 'mask_rcnn'],
)
def test_the_same_transfers_train_every_task(model, batch, task_losses):
    torch.manual_seed(0)
    transfers = copy.deepcopy(TRANSFERS)
    distiller = build_distiller(student=model(4), teacher=model(6), transfers=transfers)
    distiller.init_weights()
    distiller.train()
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.01, momentum=0.9)
    curve = []
    for _ in range(10):
        losses = distiller(**distiller.data_preprocessor(batch(), True), mode='loss')
        assert set(losses) == {*task_losses, 'loss_review'}
        curve.append(float(losses['loss_review'].detach()))
        optimizer.zero_grad()
        total(losses).backward()
        assert all(p.grad is not None for p in distiller.transfers.parameters())
        optimizer.step()

    assert transfers == TRANSFERS
    assert curve[-1] < 0.9 * curve[0]


def test_a_teacher_of_other_classes_teaches_the_neck():
    teacher = mask_rcnn(width=6, channels=12, num_classes=80)
    necks = dict(TRANSFERS['review'], student='neck', teacher='neck')

    distiller = build_distiller(student=mask_rcnn(), teacher=teacher, transfers=dict(review=necks))
    data = distiller.data_preprocessor(raw_batch(), True)

    assert distiller.teacher.roi_head.bbox_head.num_classes == 80
    assert distiller(**data, mode='loss')['loss_review'] > 0


@pytest.mark.parametrize('detector', [retinanet, faster_rcnn, mask_rcnn])
def test_no_module_of_the_teachers_heads_is_ever_called(detector):
    necks = dict(TRANSFERS['review'], student='neck', teacher='neck')
    distiller = build_distiller(
        student=mask_rcnn(), teacher=detector(6, 12), transfers=dict(review=necks)
    )
    called = []
    for name, module in distiller.teacher.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: called.append(name))

    distiller(**distiller.data_preprocessor(raw_batch(), True), mode='loss')

    assert {name.partition('.')[0] for name in called} == {'backbone', 'neck'}
