"""A teacher may look at its images in another size than the student."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.utils import ClsDataPreprocessor
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError, RunError
from tests.integration.detection import raw_batch, retinanet
from tests.models.distillers.helpers import (
    PIXELS,
    batch,
    build_distiller,
    review,
    teacher_classifier,
)
from tests.numbers import assert_close64

OWN = dict(mean=[100.0, 110.0, 120.0], std=[50.0, 40.0, 30.0], pad_value=2)
# The factors of a pixel are kept in single precision.
FACTORS = 16 * torch.finfo(torch.float32).eps
SIZE = (48, 80)


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *size), generator=generator) for size in sizes]


def teachers_images(distiller, raw: list[Tensor]) -> Tensor:
    """Return what the teacher is shown of raw images."""
    seen = []
    distiller.double()
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    data = distiller.data_preprocessor(dict(inputs=raw, data_samples=batch(len(raw))[1]), True)
    distiller.loss(data['inputs'].double(), data['data_samples'])
    return seen[0]


@pytest.mark.parametrize('own', [dict(PIXELS), OWN], ids=['same pixels', 'own pixels'])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic', 'nearest'])
def test_the_teachers_images_are_resized_in_its_own_normalisation(own, interpolation):
    raw = images((32, 40), (32, 40))
    distiller = build_distiller(
        teacher=teacher_classifier(data_preprocessor=own),
        teacher_options=dict(input_size=SIZE, interpolation=interpolation),
    )

    actual = teachers_images(distiller, copy.deepcopy(raw))

    whole = ClsDataPreprocessor(**own).double()(dict(inputs=raw))['inputs']
    assert_close64(actual, F.interpolate(whole, SIZE, mode=interpolation), FACTORS)


@pytest.mark.parametrize('own', [dict(PIXELS, pad_value=7), OWN], ids=['same pixels', 'own'])
@pytest.mark.parametrize('size', [(64, 80), (16, 20)], ids=str)
def test_no_padding_is_mixed_into_an_image(own, size):
    raw = images((32, 24), (16, 40))
    distiller = build_distiller(
        teacher=teacher_classifier(data_preprocessor=own), teacher_options=dict(input_size=size)
    )

    actual = teachers_images(distiller, copy.deepcopy(raw))

    for shown, image in zip(actual, raw, strict=True):
        alone = ClsDataPreprocessor(**own).double()(dict(inputs=[image]))['inputs']
        height, width = image.shape[-2] * size[0] // 32, image.shape[-1] * size[1] // 40
        expected = torch.full_like(shown, own['pad_value'])
        expected[:, :height, :width] = F.interpolate(alone, (height, width), mode='bilinear')[0]
        assert_close64(shown, expected, FACTORS)


def test_the_students_images_stay_as_they_are():
    distiller = build_distiller(teacher_options=dict(input_size=64))
    seen = []
    distiller.student.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    distiller.loss(*batch())

    assert seen[0].shape == (4, 3, 32, 32)


def test_a_batch_of_the_size_is_passed_on_as_it_is():
    distiller = build_distiller(teacher_options=dict(input_size=[32, 32]))
    inputs, samples = batch()
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    seen = []
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    distiller.loss(inputs, samples)

    assert seen[0] is inputs


def test_the_teacher_is_tried_and_predicts_in_its_size():
    seen = []
    teacher = teacher_classifier()
    distiller = build_distiller(teacher=teacher, teacher_options=dict(input_size=SIZE))
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    features = distiller.dummy_features((32, 32))['review']
    distiller.teacher_step(dict(inputs=images((32, 32), (32, 32)), data_samples=batch(2)[1]))

    assert [tuple(image.shape[-2:]) for image in seen] == [SIZE, SIZE]
    assert features[0][0][1].shape[-2:] == (32, 32)
    assert features[1][0][1].shape[-2:] == SIZE
    assert distiller.teacher_size((32, 32)) == SIZE


class Picky(nn.Module):
    """A backbone that takes images of 40 pixels alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        assert x.shape[-2:] == (40, 40), f'images of {tuple(x.shape[-2:])}'
        return (self.conv(x),)


@pytest.mark.parametrize('size', [None, 32, 40])
def test_a_teacher_that_insists_on_a_size_gets_it(size):
    cfg = dict(
        teacher=teacher_classifier(backbone=dict(type=Picky)),
        transfers=dict(review=review(student='backbone.layer3', teacher='backbone')),
        teacher_options=dict(input_size=size),
    )
    if size != 40:
        with pytest.raises(RunError, match=r'^transfers\.review\.teacher: .*images of'):
            build_distiller(**cfg)
        return

    assert build_distiller(**cfg).loss(*batch())['loss_review'].isfinite()


def test_a_detector_is_told_how_its_images_were_resized():
    distiller = build_distiller(
        student=retinanet(),
        teacher=retinanet(width=6, channels=12),
        transfers=dict(review=review(student='neck', teacher='neck')),
        teacher_options=dict(input_size=(128, 192)),
    )
    data = raw_batch(sizes=((64, 96), (64, 96)))
    for sample in data['data_samples']:
        sample.set_metainfo(dict(scale_factor=(1.0, 0.5)))

    predictions = distiller.teacher_step(data)

    for prediction, sample in zip(predictions, data['data_samples'], strict=True):
        assert prediction.img_shape == prediction.batch_input_shape == (128, 192)
        assert prediction.scale_factor == (2.0, 1.0)
        assert prediction.ori_shape == sample.ori_shape
        assert sample.img_shape == (64, 96)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(input_size=0), r'^teacher_options: input_size=0: expected a number of pixels or'),
        (dict(input_size='224'), r"^teacher_options: input_size='224': expected"),
        (
            dict(input_size=(224, 224, 3)),
            r'^teacher_options: input_size=\(224, 224, 3\): expected',
        ),
        (dict(interpolation='bicubik'), r"^teacher_options: interpolation='bicubik': .*'bicubic'"),
    ],
)
def test_a_wrong_size_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build_distiller(teacher_options=options)


def test_settings_of_the_distiller_itself():
    distiller = build_distiller(teacher_input_size=48, teacher_interpolation='nearest')

    assert distiller.teacher_size((32, 32)) == (48, 48)
    assert distiller._teacher.options.interpolation == 'nearest'
