"""The memory format channels_last, and the students that do without it."""

from __future__ import annotations

import copy
from typing import ClassVar

import pytest
import torch
from mmcv.ops import ModulatedDeformConv2d, RoIAlign
from torch import nn

from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.models.distillers.channels_last import set_memory_format, thin_strided_convs
from tests.integration.detection import mask_rcnn, raw_batch
from tests.models.distillers.helpers import (
    batch,
    build_distiller,
    classifier,
    teacher_classifier,
    total,
)


def conv(*args: int, **kwargs: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(*args, **kwargs))


@pytest.mark.parametrize(
    ('model', 'names'),
    [
        (conv(15, 32, 1, stride=2), ['1']),
        (conv(15, 32, 1, stride=(1, 2)), ['1']),
        (conv(32, 32, 1, stride=2, groups=4), ['1']),
        (conv(16, 32, 1, stride=2), []),
        (conv(4, 32, 1), []),
        (conv(3, 32, 3, stride=2), []),
    ],
)
def test_thin_strided_convs(model, names):
    assert thin_strided_convs(model) == names


def test_weights_of_four_dimensions_are_laid_out():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3), nn.Linear(4, 4))

    set_memory_format(model, torch.channels_last)

    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight.is_contiguous()


def test_a_thin_student_does_without_channels_last_and_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(
        'reviewkd_mm.models.distillers.distiller.print_log', lambda text, **_: said.append(text)
    )

    distiller = build_distiller(student=classifier((4, 4, 8, 16)), channels_last=True)

    assert not distiller.channels_last
    assert said == [
        "channels_last is off: the student's 'backbone.layer2.0.downsample.0' is too thin for it "
        'on a CPU'
    ]
    assert all(p.is_contiguous() for p in distiller.parameters())


class Viewing(nn.Module):
    """A neck that views its features as if they were contiguous."""

    def forward(self, features: tuple) -> tuple:
        flat = features[-1].view(len(features[-1]), -1)
        return (flat.view(features[-1].shape).mean((2, 3)),)


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_networks_that_need_the_contiguous_format_get_it(monkeypatch, side):
    said = []
    monkeypatch.setattr(
        'reviewkd_mm.models.distillers.distiller.print_log', lambda text, **_: said.append(text)
    )
    networks = dict(student=classifier((16, 16, 32, 64)), teacher=teacher_classifier())
    networks[side]['neck'] = dict(type=Viewing)

    distiller = build_distiller(**networks, channels_last=True)
    distiller.init_weights()
    total(distiller.loss(*batch())).backward()

    assert not distiller.channels_last
    assert said[0].startswith('channels_last is off: ')
    assert distiller.student.backbone.layer2[0].conv1.weight.is_contiguous()


def test_a_thin_student_trains():
    """In channels_last the process crashed within a few steps."""
    distiller = build_distiller(student=classifier((4, 4, 4, 4)))

    for _ in range(30):
        total(distiller.loss(*batch(8))).backward()

    assert all(p.grad.isfinite().all() for p in distiller.parameters())


class Deformed(ModulatedDeformConv2d):
    """A deformable convolution that tells the layouts of what it gets."""

    def forward(self, x, offset, mask):
        return [tensor.is_contiguous() for tensor in (x, offset, mask, self.weight)]


def test_mmcvs_ops_keep_the_contiguous_format():
    op = Deformed(4, 4, 3)
    model = nn.Sequential(nn.Conv2d(4, 4, 3), op)
    image = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)

    for _ in range(2):
        set_memory_format(model, torch.channels_last)

    assert not model[0].weight.is_contiguous()
    assert op(image, image, mask=image) == [True] * 4
    assert copy.deepcopy(op)(image, image, mask=image) == [True] * 4
    assert len(op._forward_pre_hooks) == 1


class Watched(torch.autograd.Function):
    """The identity, which notes the layouts of its gradients."""

    seen: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        Watched.seen.append(grad.is_contiguous())
        return grad


def test_mmcvs_ops_get_contiguous_gradients(monkeypatch):
    monkeypatch.setattr(ModulatedDeformConv2d, 'forward', lambda self, x: Watched.apply(x))
    model = nn.Sequential(ModulatedDeformConv2d(4, 4, 3))
    set_memory_format(model, torch.channels_last)
    image = torch.randn(2, 4, 6, 6, requires_grad=True)
    gradient = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)

    model(image).backward(gradient)

    assert Watched.seen == [True]
    assert torch.equal(image.grad, gradient)


def test_rois_are_read_as_they_are_laid_out(monkeypatch):
    """MMCV's compiled RoIAlign reads a feature in channels_last as if it were contiguous."""
    seen = []

    def forward(self, features, rois):
        seen.append(features.is_contiguous())
        return align(self, features, rois)

    align = RoIAlign.forward
    monkeypatch.setattr(RoIAlign, 'forward', forward)
    scope = dict(_scope_='mmdet')
    neck = dict(student='neck', teacher='neck', loss=dict(type='HCLLoss'))
    distiller = Distiller(
        {**mask_rcnn(width=16), **scope},
        {**mask_rcnn(width=16), **scope},
        dict(review=neck),
        teacher_ckpt='random',
    )
    assert distiller.channels_last

    data = distiller.data_preprocessor(raw_batch(), True)
    total(distiller.loss(data['inputs'], data['data_samples'])).backward()
    distiller.eval().test_step(raw_batch())
    distiller.teacher_step(raw_batch())

    assert len(seen) >= 6
    assert all(seen)
