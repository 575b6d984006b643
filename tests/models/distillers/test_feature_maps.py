"""Detectors whose feature maps are not square, odd or a single pixel, under the distiller."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.hub import get_config
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.distillers import Distiller
from tests.integration.detection import NUM_CLASSES, raw_batch, retinanet
from tests.models.connectors.textbook import random_weights, review, state_dict_name
from tests.models.distillers.helpers import build_distiller, total
from tests.models.losses.textbook import hcl
from tests.numbers import assert_close64

Sizes = tuple[tuple[int, int], ...]


def faster_rcnn(width: int = 4, channels: int = 8) -> dict:
    """Config of the zoo's Faster R-CNN with the thin ResNet-18."""
    cfg = get_config('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py').model
    cfg.type = 'mmdet.FasterRCNN'
    cfg.backbone = retinanet(width)['backbone']
    cfg.neck.update(in_channels=[width << stage for stage in range(4)], out_channels=channels)
    cfg.rpn_head.update(in_channels=channels, feat_channels=channels)
    cfg.roi_head.bbox_roi_extractor.out_channels = channels
    cfg.roi_head.bbox_head.update(
        in_channels=channels, fc_out_channels=16, num_classes=NUM_CLASSES
    )
    for proposals in (cfg.train_cfg.rpn_proposal, cfg.test_cfg.rpn):
        proposals.update(nms_pre=50, max_per_img=20)
    return cfg


def odd_padding(cfg: dict) -> dict:
    """Take images at their own size instead of one that 32 divides."""
    cfg['data_preprocessor'].update(pad_size_divisor=1)
    return cfg


STUDENTS = {'RetinaNet': retinanet, 'Faster R-CNN': faster_rcnn}
# RetinaNet's levels have strides 8 to 128, Faster R-CNN's 4 to 64: maps of other sizes.
PAIRS = [
    ('RetinaNet', 'RetinaNet'),
    ('RetinaNet', 'Faster R-CNN'),
    ('Faster R-CNN', 'Faster R-CNN'),
    ('Faster R-CNN', 'RetinaNet'),
]
# Pixels (H, W) of two images each.
SQUARE, WIDE, TALL = ((64, 64), (48, 40)), ((37, 91), (64, 50)), ((101, 45), (97, 67))


def build_pair(student: str, teacher: str, **connector: Any) -> Distiller:
    transfer = dict(
        student='neck',
        teacher='neck',
        connector=dict(type='ReviewConnector', **connector),
        loss=dict(type='HCLLoss'),
    )
    torch.manual_seed(0)
    return build_distiller(
        student=odd_padding(STUDENTS[student](width=8)),
        teacher=odd_padding(STUDENTS[teacher](width=8, channels=12)),
        transfers=dict(review=transfer),
    )


def losses_of(distiller: Distiller, sizes: Sizes) -> dict:
    data = distiller.data_preprocessor(raw_batch(sizes), training=True)
    return distiller(**data, mode='loss')


def watch_neck(model: nn.Module) -> list[Tensor]:
    """Return a list that holds the levels of the neck's last output."""
    levels: list[Tensor] = []

    def keep(module: nn.Module, args: tuple, output: tuple[Tensor, ...]) -> None:
        levels[:] = output

    model.neck.register_forward_hook(keep)
    return levels


def textbook_loss(connector: ReviewConnector, student: list[Tensor], teacher: list[Tensor]):
    channels = [[level.shape[1] for level in levels] for levels in (student, teacher)]
    state = {name: value.double() for name, value in connector.state_dict().items()}
    names = random_weights(*channels, mid=connector.abfs[0].conv1.out_channels)
    weights = {name: state[state_dict_name(name)] for name in names}
    student, teacher = ([x.detach().double() for x in levels] for levels in (student, teacher))
    return hcl(review(student, [t.shape[2:] for t in teacher], weights), teacher)


@pytest.mark.parametrize(('student', 'teacher'), PAIRS)
@pytest.mark.parametrize('sizes', [SQUARE, WIDE, TALL], ids=['square', 'wide', 'tall'])
def test_a_step_on_maps_of_any_shape(student, teacher, sizes):
    distiller = build_pair(student, teacher)
    levels, targets = watch_neck(distiller.student), watch_neck(distiller.teacher)

    losses = losses_of(distiller, sizes)
    total(losses).backward()

    transfer = distiller.transfers.review
    assert losses['loss_review'] == transfer(levels, targets)
    expected = textbook_loss(transfer.connector, levels, targets)
    doubles = ([level.double() for level in maps] for maps in (levels, targets))
    assert_close64(copy.deepcopy(transfer).double()(*doubles), expected)
    for name, parameter in distiller.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    for name, parameter in distiller.transfers.named_parameters():
        assert parameter.grad.any(), name


@pytest.mark.parametrize(
    ('sizes', 'expected'),
    [
        (SQUARE, [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]),
        (WIDE, [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]),
        (TALL, [(13, 9), (7, 5), (4, 3), (2, 2), (1, 1)]),
    ],
    ids=['square', 'wide', 'tall'],
)
def test_the_maps_are_not_square_odd_and_down_to_one_pixel(sizes, expected):
    distiller = build_pair('RetinaNet', 'Faster R-CNN')
    levels, targets = watch_neck(distiller.student), watch_neck(distiller.teacher)

    losses_of(distiller, sizes)

    assert [tuple(level.shape[2:]) for level in levels] == expected
    assert [tuple(target.shape[2:]) for target in targets][1:] == expected[:-1]


def test_training_on_batches_of_changing_shape_lowers_the_distillation_loss():
    distiller = build_pair('RetinaNet', 'Faster R-CNN')
    optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=0.01, momentum=0.9))

    curve = []
    for _ in range(8):
        for sizes in (SQUARE, WIDE, TALL):
            logged = distiller.train_step(raw_batch(sizes), optimizer)
            assert all(torch.as_tensor(value).isfinite() for value in logged.values())
            curve.append(logged['loss_review'].item())

    assert sum(curve[-3:]) < 0.8 * sum(curve[:3])


def test_one_image_with_a_level_of_one_pixel_is_refused_with_the_transfers_name():
    distiller = build_pair('RetinaNet', 'RetinaNet')

    with pytest.raises(ValueError, match=r'^transfers\.review: .*more than (1|one) value'):
        losses_of(distiller, WIDE[:1])


@pytest.mark.parametrize(
    ('sizes', 'connector'),
    [
        (WIDE[:1], dict(mid_channels=8, norm_cfg=dict(type='GN', num_groups=4))),
        (((37, 300),), dict()),
    ],
    ids=['GN', 'two pixels'],
)
def test_one_image_trains(sizes, connector):
    distiller = build_pair('RetinaNet', 'RetinaNet', **connector)

    losses = losses_of(distiller, sizes)
    total(losses).backward()

    assert losses['loss_review'].isfinite()
    assert all(p.grad.isfinite().all() for p in distiller.parameters())
