"""The teacher sees what its own data_preprocessor would have made of the raw images."""

from __future__ import annotations

import copy

import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.structures import DataSample

from reviewkd_mm.models.distillers.normalization import PixelFormat, Renormalize
from tests.models.distillers.helpers import (
    PIXELS,
    batch,
    build,
    build_distiller,
    classifier,
    teacher_classifier,
)
from tests.numbers import assert_close64

CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
GREY = dict(mean=[120.0], std=[60.0])
SIZES = ((20, 30), (32, 17))
# The factors of a pixel are kept in single precision.
FACTORS = 8 * torch.finfo(torch.float32).eps


def images(sizes=SIZES) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes
    ]


def preprocess(preprocessor: BaseDataPreprocessor, sizes=SIZES):
    """Return the batch that a data_preprocessor makes, and its samples."""
    kind = DetDataSample if isinstance(preprocessor, DetDataPreprocessor) else DataSample
    samples = [kind(metainfo=dict(img_shape=size, ori_shape=size)) for size in sizes]
    preprocessor = copy.deepcopy(preprocessor).double()
    data = preprocessor(dict(inputs=images(sizes), data_samples=samples), training=True)
    return data['inputs'].double(), data['data_samples']


def renormalize(student: BaseDataPreprocessor, teacher: BaseDataPreprocessor) -> Renormalize:
    return Renormalize(PixelFormat.of(student), PixelFormat.of(teacher)).double()


@pytest.mark.parametrize(
    ('student', 'teacher'),
    [
        (DetDataPreprocessor(**IMAGENET, bgr_to_rgb=True), DetDataPreprocessor(**CAFFE)),
        (DetDataPreprocessor(**CAFFE), DetDataPreprocessor(**IMAGENET, bgr_to_rgb=True)),
        (DetDataPreprocessor(**IMAGENET), DetDataPreprocessor(**IMAGENET, rgb_to_bgr=True)),
        (DetDataPreprocessor(**IMAGENET), DetDataPreprocessor(**IMAGENET, pad_value=3)),
        (DetDataPreprocessor(**IMAGENET, pad_value=7), DetDataPreprocessor(**CAFFE, pad_value=-2)),
        (DetDataPreprocessor(**IMAGENET), DetDataPreprocessor()),
        (DetDataPreprocessor(), DetDataPreprocessor(**IMAGENET, bgr_to_rgb=True)),
        (ImgDataPreprocessor(**GREY), ImgDataPreprocessor(**IMAGENET, bgr_to_rgb=True)),
        (ImgDataPreprocessor(**IMAGENET, bgr_to_rgb=True), ImgDataPreprocessor(**GREY)),
        (ClsDataPreprocessor(**PIXELS), ClsDataPreprocessor(**IMAGENET, to_rgb=True)),
        (ClsDataPreprocessor(**PIXELS, to_rgb=True), ClsDataPreprocessor(**PIXELS)),
        (ClsDataPreprocessor(**IMAGENET, to_rgb=True), ClsDataPreprocessor(**CAFFE, pad_value=9)),
        (ClsDataPreprocessor(**PIXELS, to_rgb=True), DetDataPreprocessor(**CAFFE)),
    ],
)
def test_padded_batch_of_two_sizes(student, teacher):
    inputs, samples = preprocess(student)
    expected, _ = preprocess(teacher)
    kept = inputs.clone()

    actual = renormalize(student, teacher)(inputs, samples)

    assert_close64(actual, expected, FACTORS)
    assert torch.equal(inputs, kept)


def test_padding_to_a_divisor_is_the_students_size():
    student = DetDataPreprocessor(**IMAGENET, bgr_to_rgb=True, pad_size_divisor=32)
    teacher = DetDataPreprocessor(**CAFFE, pad_size_divisor=1, pad_value=4)
    inputs, samples = preprocess(student, sizes=((20, 30), (40, 17)))
    expected, _ = preprocess(
        DetDataPreprocessor(**CAFFE, pad_size_divisor=32, pad_value=4), sizes=((20, 30), (40, 17))
    )

    actual = renormalize(student, teacher)(inputs, samples)

    assert actual.shape == (2, 3, 64, 32)
    assert_close64(actual, expected, FACTORS)


@pytest.mark.parametrize('kind', [DetDataPreprocessor, ClsDataPreprocessor, ImgDataPreprocessor])
def test_equal_formats_pass_the_same_tensor(kind):
    student, teacher = kind(**IMAGENET), kind(**IMAGENET, pad_size_divisor=32)
    inputs, samples = preprocess(student)

    assert renormalize(student, teacher)(inputs, samples) is inputs


def test_samples_that_know_no_size_have_no_padding():
    student, teacher = ClsDataPreprocessor(**PIXELS), ClsDataPreprocessor(**IMAGENET, pad_value=9)
    inputs, _ = preprocess(student, sizes=((8, 8), (8, 8)))
    expected, _ = preprocess(teacher, sizes=((8, 8), (8, 8)))
    module = renormalize(student, teacher)

    for samples in (None, [DataSample(), DataSample()]):
        assert_close64(module(inputs, samples), expected, FACTORS)


def test_shape_with_channels_is_understood():
    student, teacher = DetDataPreprocessor(**IMAGENET), DetDataPreprocessor(**CAFFE, pad_value=5)
    inputs, samples = preprocess(student)
    expected, _ = preprocess(teacher)
    for sample in samples:
        sample.set_metainfo(dict(img_shape=(*sample.img_shape, 3)))

    assert_close64(renormalize(student, teacher)(inputs, samples), expected, FACTORS)


class NamesOfMMSegmentation(BaseDataPreprocessor):
    """The attributes of OpenMMLab's SegDataPreProcessor, which is not one of MMEngine's."""

    def __init__(self) -> None:
        super().__init__()
        self._enable_normalize, self.channel_conversion, self.pad_val = True, True, 3
        for name, values in IMAGENET.items():
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))


def test_names_of_openmmlabs_mmsegmentation_are_understood():
    student = DetDataPreprocessor(**CAFFE)
    teacher = DetDataPreprocessor(**IMAGENET, bgr_to_rgb=True, pad_value=3)
    inputs, samples = preprocess(student)
    expected, _ = preprocess(teacher)

    actual = renormalize(student, NamesOfMMSegmentation())(inputs, samples)

    assert_close64(actual, expected, FACTORS)


def test_runs_in_float64():
    module = renormalize(ClsDataPreprocessor(**PIXELS), ClsDataPreprocessor(**CAFFE)).double()
    inputs, _ = batch()

    assert module(inputs.double()).dtype == torch.float64


def teachers_input(distiller, data: dict) -> torch.Tensor:
    seen = []
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    distiller.loss(**distiller.data_preprocessor(data, training=True))
    return seen[0]


@pytest.mark.parametrize('built', [True, False])
def test_teacher_in_a_distiller_sees_its_own_pixels(built):
    own = dict(IMAGENET, to_rgb=True)
    cfg = teacher_classifier(data_preprocessor=own)
    teacher = dict(teacher=build(cfg), teacher_ckpt=None) if built else dict(teacher=cfg)
    data = dict(inputs=torch.stack(images(((32, 32),) * 2)), data_samples=batch(2)[1])
    expected = ClsDataPreprocessor(**own).double()(copy.deepcopy(data))['inputs']

    actual = teachers_input(build_distiller(**teacher).double(), data)

    assert_close64(actual, expected, FACTORS)


def test_teacher_of_the_same_pixels_sees_the_same_tensor():
    distiller = build_distiller()
    inputs, samples = batch()
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    seen = []
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    distiller.loss(inputs, samples)

    assert seen[0] is inputs


@pytest.mark.parametrize('built', [True, False])
def test_teacher_without_a_data_preprocessor_takes_the_students(built):
    cfg = teacher_classifier()
    del cfg['data_preprocessor']
    teacher = dict(teacher=cfg)
    if built:
        teacher = dict(teacher=build(cfg), teacher_ckpt=None)
        teacher['teacher'].data_preprocessor = BaseDataPreprocessor()
    student = classifier(data_preprocessor=dict(IMAGENET, to_rgb=True))
    distiller = build_distiller(student=student, **teacher)
    inputs, samples = batch()
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    seen = []
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    distiller.loss(inputs, samples)

    assert seen[0] is inputs
