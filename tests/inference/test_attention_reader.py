"""Tests of reading what a student reviews from files."""

from __future__ import annotations

import mmcv
import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from reviewkd_mm.inference import build_predictor
from reviewkd_mm.inference.attention_reader import ReviewReader
from tests.inference.reviews import (
    STUDENT_PIXELS,
    TEACHER_PIXELS,
    Pair,
    save_distiller,
    write_classifiers,
    write_detectors,
)
from tests.inference.students import write_image
from tests.models.distillers.helpers import logits
from tests.numbers import assert_within_rounding

pytestmark = pytest.mark.usefixtures('in_float64')


@pytest.fixture(scope='module')
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return write_classifiers(tmp_path_factory.mktemp('classifiers'))


@pytest.fixture(scope='module')
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return write_detectors(tmp_path_factory.mktemp('detectors'))


def read(pair: Pair, **kwargs: object) -> ReviewReader:
    return ReviewReader(pair.read(), str(pair.checkpoint), device='cpu', **kwargs)


def normalise(pixels: np.ndarray, mean: list[float], std: list[float], **_: object) -> Tensor:
    """Return pixels (H, W, 3) as a batch (1, 3, H, W)."""
    image = (pixels.astype(np.float64) - np.float64(mean)) / np.float64(std)
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def assert_rounded(shown: np.ndarray, exact: Tensor) -> None:
    """Check maps that are computed in float64 and shown in float32."""
    assert_within_rounding(shown, exact.float(), exact)


def assert_same_maps(shown: np.ndarray, other: np.ndarray) -> None:
    assert_rounded(shown, torch.from_numpy(other).double())


def test_a_classifier_sees_what_its_test_pipeline_gives(classifiers, tmp_path):
    image = write_image(tmp_path / 'image.png')
    pixels = mmcv.imresize(mmcv.imread(image, channel_order='rgb'), (32, 32))

    review = read(classifiers).read(image)

    np.testing.assert_array_equal(review.image, pixels)
    assert review.area == (32, 32)
    assert review.transfer == 'review'
    with torch.no_grad():
        # Global average pooling is what the last tap gives, of either model.
        student, teacher = classifiers.student_of(), classifiers.teacher_alone()
        (of_student,) = student.extract_feat(normalise(pixels, **STUDENT_PIXELS))
        (of_teacher,) = teacher.extract_feat(normalise(pixels, **TEACHER_PIXELS))
    deepest = review.stages[-1]
    assert_rounded(deepest.student, of_student.mean().view(1, 1))
    assert_rounded(deepest.teacher, of_teacher.mean().view(1, 1))
    predictor = build_predictor(classifiers.read(), str(classifiers.checkpoint), 'cpu')
    assert review.found == predictor.predict(image).found


def test_a_detectors_maps_cover_image_and_padding(detectors, tmp_path):
    image = write_image(tmp_path / 'image.png', height=60, width=80)
    # The pipeline fits it into 96 x 64, the preprocessor pads it to multiples of 32.
    pixels = mmcv.imresize(mmcv.imread(image, channel_order='rgb'), (85, 64))

    review = read(detectors).read(image)

    np.testing.assert_array_equal(review.image, pixels)
    assert review.area == (64, 96)
    pixels = np.ascontiguousarray(pixels)
    settings = {k: detectors.read().model[k].data_preprocessor for k in ('student', 'teacher')}
    given = dict(student=pixels, teacher=pixels[..., ::-1])  # Caffe's is BGR.
    models = dict(student=detectors.student_of(), teacher=detectors.teacher_alone())
    for name, model in models.items():
        inputs = normalise(given[name], **settings[name])
        padded = torch.nn.functional.pad(inputs, (0, 96 - 85, 0, 0))
        with torch.no_grad():
            levels = model.extract_feat(padded)
        for stage, level in zip(review.stages, levels, strict=True):
            assert_rounded(getattr(stage, name), level[0].mean(dim=0))


@pytest.mark.parametrize('kind', ['distiller', 'student'])
def test_the_student_before(classifiers, tmp_path, kind):
    image = write_image(tmp_path / 'image.png')
    other = save_distiller(classifiers, tmp_path / 'distiller.pth', seed=7)
    before = other
    if kind == 'student':
        before = tmp_path / 'student.pth'
        torch.save(classifiers.student_of(other).state_dict(), before)

    stages = read(classifiers, before=str(before)).read(image).stages

    of_other = ReviewReader(classifiers.read(), str(other), device='cpu').read(image).stages
    plain = read(classifiers).read(image).stages
    for stage, earlier, now in zip(stages, of_other, plain, strict=True):
        assert_same_maps(stage.before, earlier.student)
        np.testing.assert_array_equal(stage.student, now.student)
        np.testing.assert_array_equal(stage.connected, now.connected)


def test_how_a_training_runs_its_models_does_not_matter(classifiers, tmp_path):
    """A teacher with the statistics of one image would show other features."""
    image = write_image(tmp_path / 'image.png')
    cfg = classifiers.read()
    cfg.model.update(
        teacher_train_bn=True, teacher_options=dict(dtype='bf16'), transfers_compile=True
    )

    stages = ReviewReader(cfg, str(classifiers.checkpoint), device='cpu').read(image).stages

    for stage, plain in zip(stages, read(classifiers).read(image).stages, strict=True):
        assert_same_maps(stage.teacher, plain.teacher)
        assert_same_maps(stage.connected, plain.connected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')
def test_on_a_gpu(detectors, tmp_path):
    image = write_image(tmp_path / 'image.png')
    before = str(detectors.checkpoint)

    reader = ReviewReader(detectors.read(), before, before=before, device='cuda')

    tensors = [*reader.distiller.parameters(), *reader.distiller.teacher.parameters()]
    assert all(tensor.is_cuda for tensor in tensors)
    stages = read(detectors).read(image).stages
    for stage, on_cpu in zip(reader.read(image).stages, stages, strict=True):
        assert_same_maps(stage.connected, on_cpu.connected)
        assert_same_maps(stage.before, on_cpu.student)


def test_a_missing_teacher(classifiers):
    cfg = classifiers.read()
    cfg.model.teacher_ckpt = str(classifiers.teacher.with_name('teachr.pth'))

    with pytest.raises(FileNotFoundError, match=r"teacher_ckpt='.*teachr\.pth': .*'teacher\.pth'"):
        ReviewReader(cfg, str(classifiers.checkpoint), device='cpu')


def test_a_checkpoint_of_a_student_alone(classifiers, tmp_path):
    checkpoint = tmp_path / 'student.pth'
    torch.save(classifiers.student_of().state_dict(), checkpoint)

    message = r"checkpoint='.*student\.pth' has no connector .* checkpoint of the distiller"
    with pytest.raises(ValueError, match=message):
        ReviewReader(classifiers.read(), str(checkpoint), device='cpu')


def test_a_checkpoint_of_another_connector(classifiers, tmp_path):
    checkpoint = tmp_path / 'other.pth'
    saved = torch.load(classifiers.checkpoint)
    del saved['state_dict']['transfers.review.connector.abfs.0.att_conv.bias']
    torch.save(saved, checkpoint)

    message = r"checkpoint='.*other\.pth': .* 1 missing \(transfers.*att_conv\.bias\)"
    with pytest.raises(RuntimeError, match=message):
        ReviewReader(classifiers.read(), str(checkpoint), device='cpu')


def test_a_distiller_that_reviews_nothing(tmp_path):
    pair = write_classifiers(tmp_path, kd=logits())

    with pytest.raises(ValueError, match=r"none has a ReviewConnector.*'kd' \(no connector\)"):
        read(pair)


def test_the_config_of_an_ordinary_model(classifiers):
    cfg = Config(dict(model=classifiers.read().model.student, default_scope='mmpretrain'))

    with pytest.raises(ValueError, match=r'expected the config of a distiller.*ImageClassifier'):
        ReviewReader(cfg, str(classifiers.checkpoint), device='cpu')
