"""The teacher sees what its own data_preprocessor would have made of the raw images."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmengine.structures import BaseDataElement, InstanceData
from mmpretrain.models.utils import ClsDataPreprocessor, SelfSupDataPreprocessor
from mmpretrain.structures import DataSample
from torch import nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.distillers.normalization import PixelFormat, Renormalize
from tests.models.distillers.helpers import (
    PIXELS,
    batch,
    build,
    build_distiller,
    classifier,
    review,
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


def preprocess(preprocessor: BaseDataPreprocessor, sizes=SIZES, training: bool = True, raw=None):
    """Return the batch that a data_preprocessor makes, and its samples.

    These know their image as it was loaded: not every transform writes the new size down.
    """
    raw = images(sizes) if raw is None else raw
    samples = [sample_for(preprocessor)(metainfo=dict(img_shape=(9, 10))) for _ in raw]
    for index, sample in enumerate(samples):
        if isinstance(sample, DetDataSample):
            sample.gt_instances = InstanceData(bboxes=torch.ones(1, 4))
            sample.ignored_instances = InstanceData(bboxes=torch.ones(1, 4))
        elif isinstance(sample, DataSample):
            sample.set_gt_label(index)
    data = preprocessor.double()(dict(inputs=raw, data_samples=samples), training)
    return data['inputs'].double(), data['data_samples']


def sample_for(preprocessor: BaseDataPreprocessor) -> type[BaseDataElement]:
    return DetDataSample if isinstance(preprocessor, DetDataPreprocessor) else DataSample


def renormalize(student: BaseDataPreprocessor, teacher: BaseDataPreprocessor) -> Renormalize:
    module = Renormalize(PixelFormat.of(student), PixelFormat.of(teacher)).double()
    module.follow(student)
    return module


def seen_and_expected(student, teacher, sizes=SIZES, training: bool = True, raw=None):
    """Return what the teacher is shown and what its own data_preprocessor makes of the images."""
    student, teacher = copy.deepcopy(student), copy.deepcopy(teacher)
    module = renormalize(student, teacher)
    batches = []
    for preprocessor in (student, teacher):
        np.random.seed(0)
        torch.manual_seed(0)
        batches.append(preprocess(preprocessor, sizes, training, raw))
    return module(*batches[0]), batches[1][0]


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
    actual, expected = seen_and_expected(student, teacher)

    assert_close64(actual, expected, FACTORS)


SEG_PADDING = [
    (dict(size=(40, 48)), SIZES, True),
    (dict(size_divisor=16), SIZES, True),
    (dict(size_divisor=16), ((32, 30),) * 2, False),
    (dict(size=(40, 48), test_cfg=dict(size_divisor=32)), ((20, 30),) * 2, False),
    (dict(size=(40, 48), test_cfg=dict(size=(64, 32))), ((20, 30),) * 2, False),
]


@pytest.mark.parametrize(('padding', 'sizes', 'training'), SEG_PADDING, ids=str)
def test_padding_of_segmentors(padding, sizes, training):
    kind = pytest.importorskip('mmseg.models').SegDataPreProcessor
    student = kind(**IMAGENET, bgr_to_rgb=True, pad_val=1, **padding)
    teacher = kind(**CAFFE, pad_val=5, **padding)

    actual, expected = seen_and_expected(student, teacher, sizes, training)

    assert_close64(actual, expected, FACTORS)


def test_images_without_labels():
    student = SelfSupDataPreprocessor(**IMAGENET, to_rgb=True)
    teacher = SelfSupDataPreprocessor(**CAFFE, pad_value=3)

    actual, expected = seen_and_expected(
        student, teacher, raw=torch.stack(images(((20, 30),) * 2))
    )

    assert_close64(actual, expected, FACTORS)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('kind', [ClsDataPreprocessor, DetDataPreprocessor, ImgDataPreprocessor])
@pytest.mark.parametrize('divisor', [1, 16])
def test_images_of_one_size(kind, divisor, training):
    student = kind(**IMAGENET, pad_size_divisor=divisor)
    teacher = kind(**CAFFE, pad_size_divisor=divisor, pad_value=3)

    actual, expected = seen_and_expected(student, teacher, ((20, 30),) * 2, training)

    assert_close64(actual, expected, FACTORS)


def test_the_students_batch_stays_as_it_was():
    student = DetDataPreprocessor(**IMAGENET)
    module = renormalize(student, DetDataPreprocessor(**CAFFE))
    inputs, samples = preprocess(student)
    kept = inputs.clone()

    module(inputs, samples)

    assert torch.equal(inputs, kept)


RESIZE = dict(type='BatchSyncRandomResize', random_size_range=(48, 80), size_divisor=16)
AUGMENTS = [
    [RESIZE],
    [dict(type='BatchFixedSizePad', size=(40, 48))],
    [dict(type='BatchResize', scale=(40, 60), pad_size_divisor=32)],
    [dict(type='BatchFixedSizePad', size=(40, 48)), RESIZE],
]


def resized(augments: list[dict], **pixels) -> DetDataPreprocessor:
    """Build a data_preprocessor whose multi-scale training has drawn a size."""
    preprocessor = DetDataPreprocessor(**pixels, pad_size_divisor=8, batch_augments=augments)
    for augment in preprocessor.batch_augments:
        augment._input_size = (56, 72)
    return preprocessor


@pytest.fixture
def iteration():
    """Give multi-scale training the iteration that it reads."""
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 0)
    yield
    hub.pop_info('iter')


@pytest.mark.usefixtures('iteration')
@pytest.mark.parametrize('augments', AUGMENTS, ids=str)
@pytest.mark.parametrize('sizes', [SIZES, ((32, 40),) * 2], ids=str)
def test_padding_follows_the_batch_augmentations_of_detectors(augments, sizes):
    values = dict(BatchFixedSizePad='img_pad_value', BatchResize='pad_value')
    own = [{**a, values[a['type']]: 4} if a['type'] in values else a for a in augments]
    student, teacher = resized(augments, **IMAGENET), resized(own, **CAFFE, pad_value=4)

    actual, expected = seen_and_expected(student, teacher, sizes)

    assert_close64(actual, expected, FACTORS)


@pytest.mark.usefixtures('iteration')
def test_multi_scale_images_may_hold_the_padding_value():
    student, teacher = resized([RESIZE], pad_value=114), resized([RESIZE], **CAFFE)
    grey = [torch.full((3, 32, 40), 114, dtype=torch.uint8)] * 2

    actual, expected = seen_and_expected(student, teacher, raw=grey)

    assert_close64(actual, expected, FACTORS)


@pytest.mark.usefixtures('iteration')
@pytest.mark.parametrize('augments', AUGMENTS, ids=str)
def test_a_followed_data_preprocessor_makes_the_same_batch(augments):
    plain, followed = resized(augments, **IMAGENET), resized(augments, **IMAGENET)
    renormalize(followed, DetDataPreprocessor(**CAFFE))

    (expected, wanted), (actual, samples) = preprocess(plain), preprocess(followed)

    assert torch.equal(actual, expected)
    assert actual.is_contiguous()
    for sample, other in zip(samples, wanted, strict=True):
        assert torch.equal(sample.gt_instances.bboxes, other.gt_instances.bboxes)


@pytest.mark.parametrize(
    'augment', [dict(type='Mixup', alpha=1.0), dict(type='CutMix', alpha=1.0)], ids=str
)
def test_mixed_images(augment):
    mixed = dict(num_classes=2, batch_augments=dict(augments=augment))
    student = ClsDataPreprocessor(**PIXELS, **mixed)
    teacher = ClsDataPreprocessor(**CAFFE, pad_value=9, **mixed)

    actual, expected = seen_and_expected(student, teacher, ((32, 32),) * 2)

    assert_close64(actual, expected, FACTORS)


def test_what_is_mixed_over_padding_is_shown():
    mixed = dict(num_classes=2, batch_augments=dict(augments=dict(type='Mixup', alpha=1.0)))
    student = ClsDataPreprocessor(**PIXELS, **mixed)
    teacher = ClsDataPreprocessor(**CAFFE, pad_value=9)
    module = renormalize(student, teacher)
    inputs, samples = preprocess(student)

    actual = module(inputs, samples)

    both, none = slice(None, 20), (slice(None), slice(None), slice(20, None), slice(17, None))
    expected = module(inputs)
    assert_close64(actual[:, :, both], expected[:, :, both], FACTORS)
    assert_close64(actual[none], torch.full_like(actual[none], 9), FACTORS)


def test_padding_to_a_divisor_is_the_students_size():
    student = DetDataPreprocessor(**IMAGENET, bgr_to_rgb=True, pad_size_divisor=32)
    teacher = DetDataPreprocessor(**CAFFE, pad_size_divisor=1, pad_value=4)
    module = renormalize(student, teacher)
    inputs, samples = preprocess(student, sizes=((20, 30), (40, 17)))
    expected, _ = preprocess(
        DetDataPreprocessor(**CAFFE, pad_size_divisor=32, pad_value=4), sizes=((20, 30), (40, 17))
    )

    actual = module(inputs, samples)

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
    module = renormalize(student, NamesOfMMSegmentation())
    inputs, samples = preprocess(student)
    expected, _ = preprocess(teacher)

    actual = module(inputs, samples)

    assert_close64(actual, expected, FACTORS)


def test_runs_in_float64():
    module = renormalize(ClsDataPreprocessor(**PIXELS), ClsDataPreprocessor(**CAFFE)).double()
    inputs, _ = batch()

    assert module(inputs.double()).dtype == torch.float64


def stale_samples(count: int = 2) -> list[DataSample]:
    """Draw samples whose images were resized since their size was noted."""
    samples = batch(count)[1]
    for sample in samples:
        sample.set_metainfo(dict(img_shape=(9, 10), ori_shape=(9, 10)))
    return samples


def teachers_input(distiller, data: dict) -> torch.Tensor:
    seen = []
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    distiller.loss(**distiller.data_preprocessor(data, training=True))
    return seen[0]


BATCHES = {
    'stacked': torch.stack(images(((32, 32),) * 2)),
    'listed': images(((32, 32),) * 2),
    'of two sizes': images(((32, 24), (28, 32))),
}


@pytest.mark.parametrize('raw', BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize('built', [True, False])
def test_teacher_in_a_distiller_sees_its_own_pixels(built, raw):
    own = dict(IMAGENET, to_rgb=True, pad_value=2)
    cfg = teacher_classifier(data_preprocessor=own)
    teacher = dict(teacher=build(cfg), teacher_ckpt=None) if built else dict(teacher=cfg)
    data = dict(inputs=raw, data_samples=stale_samples())
    expected = ClsDataPreprocessor(**own).double()(copy.deepcopy(data))['inputs']

    actual = teachers_input(build_distiller(**teacher).double(), data)

    assert_close64(actual, expected, FACTORS)


@pytest.mark.parametrize('raw', BATCHES.values(), ids=BATCHES)
def test_a_teacher_that_predicts_sees_its_own_pixels(raw):
    own = dict(IMAGENET, to_rgb=True, pad_value=2)
    data = dict(inputs=raw, data_samples=stale_samples())
    expected = ClsDataPreprocessor(**own).double()(copy.deepcopy(data))['inputs']
    distiller = build_distiller(teacher=teacher_classifier(data_preprocessor=own)).double()
    seen = []
    distiller.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    distiller.teacher_step(data)

    assert_close64(seen[0], expected, FACTORS)


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


class Stem(nn.Module):
    """A backbone for images of any number of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.conv(x),)


def reading(channels: int, **kwargs) -> dict:
    pixels = dict(mean=[100.0] * channels, std=[50.0] * channels)
    cfg = classifier(backbone=dict(type=Stem, channels=channels), data_preprocessor=pixels)
    cfg['head']['in_channels'] = 8
    cfg.update(kwargs)
    return cfg


def pair(student: dict, teacher: dict):
    transfers = dict(review=review(student='backbone', teacher='backbone'))
    return build_distiller(student=student, teacher=teacher, transfers=transfers)


@pytest.mark.parametrize(('student', 'teacher'), [(3, 1), (4, 3), (3, 4), (1, 4)])
def test_images_of_other_channels_are_named_at_build(student, teacher):
    expected = f"^teacher: its images have {teacher} channels?, the student's {student}: "

    with pytest.raises(ConfigError, match=expected):
        pair(reading(student), reading(teacher))


def test_means_of_another_number_of_channels_are_named_at_build():
    teacher = reading(4, data_preprocessor=dict(PIXELS))

    with pytest.raises(ConfigError, match=r'^teacher\.data_preprocessor\.mean=.* each channel'):
        pair(reading(4), teacher)


@pytest.mark.parametrize('own', [dict(PIXELS), dict(mean=[100.0], std=[50.0]), None], ids=str)
def test_a_teacher_of_colour_images_sees_grey_ones_in_three_channels(own):
    teacher = reading(3, data_preprocessor=own)
    distiller = pair(reading(1), teacher).double()
    data = dict(inputs=torch.stack(images(((32, 32),) * 2))[:, :1], data_samples=batch(2)[1])
    pixels = own or dict(mean=[100.0], std=[50.0])
    repeated = dict(inputs=data['inputs'].repeat(1, 3, 1, 1))

    actual = teachers_input(distiller, data)

    expected = ClsDataPreprocessor(**pixels).double()(repeated)['inputs']
    assert_close64(actual, expected, FACTORS)
