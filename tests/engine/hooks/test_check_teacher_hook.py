"""The teacher is evaluated before a training, and is the same after it."""

from __future__ import annotations

import copy
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmengine.runner import Runner
from torch import nn

from reviewkd_mm.engine.hooks import CheckTeacherHook
from reviewkd_mm.engine.hooks.check_teacher_hook import combined, count_classes, state_digests
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    NUM_CLASSES,
    TinyImages,
    assert_same_state,
    build,
    build_distiller,
    classifier,
    distiller_cfg,
    runner_cfg,
    state_of,
    teacher_classifier,
)
from tests.numbers import assert_close64

# What the teacher's own normalisation makes of images, and channels in another order.
OTHER_PIXELS = dict(mean=[10.0, 20.0, 30.0], std=[5.0, 6.0, 7.0], to_rgb=True)


def make_runner(folder: Path, num_batches: int | None = None, **kwargs: Any) -> Runner:
    """Build a training of one epoch that checks the teacher; model= replaces its model."""
    hook = dict(type='reviewkd_mm.CheckTeacherHook', num_batches=num_batches)
    model = kwargs.pop('model', None) or distiller_cfg()
    options = dict(
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1),
        custom_hooks=[hook],
        default_hooks=dict(checkpoint=None),
        log_level='INFO',
    )
    options.update(kwargs)
    return Runner.from_cfg(runner_cfg(model, folder, **options))


def messages_of(runner: Runner) -> list[str]:
    """Collect what the runner logs from now on."""
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    runner.logger.addHandler(Listener())
    return found


def checked(messages: list[str]) -> str:
    return next(message for message in messages if message.startswith('The teacher on '))


def accuracy_of(model: nn.Module, count: int) -> float:
    """Percentage of the first validation images whose class a model tells, by hand."""
    data = TinyImages(flip=False)
    samples = [data.prepare_data(i) for i in range(count)]
    images = model.data_preprocessor(
        dict(inputs=torch.stack([s['inputs'] for s in samples])), training=False
    )['inputs']
    with torch.no_grad():
        found = model.eval()(images, mode='tensor').argmax(1)
    labels = [int(s['data_samples'].gt_label) for s in samples]
    return 100 * sum(f == t for f, t in zip(found.tolist(), labels, strict=True)) / count


@pytest.fixture
def teacher(tmp_path) -> tuple[nn.Module, str]:
    """A teacher that tells some of the images, with the path of its weights."""
    model = build(teacher_classifier(data_preprocessor=OTHER_PIXELS), seed=3)
    path = str(tmp_path / 'teacher.pth')
    torch.save(model.state_dict(), path)
    return model, path


@pytest.mark.parametrize(('batches', 'count'), [(1, 4), (9, 8), (None, 8)])
def test_the_metric_is_that_of_the_teacher_alone(tmp_path, teacher, batches, count):
    model, path = teacher
    cfg = distiller_cfg(
        teacher=teacher_classifier(data_preprocessor=OTHER_PIXELS), teacher_ckpt=path
    )
    runner = make_runner(tmp_path, batches, model=cfg)
    messages = messages_of(runner)

    runner.train()

    line = checked(messages)
    assert f'The teacher on {count} of 8 validation samples: ' in line
    value = float(re.search(r'accuracy/top1: ([\d.]+)', line)[1])
    assert value == pytest.approx(accuracy_of(model, count), abs=0.01)
    start = next(i for i, message in enumerate(messages) if 'Epoch(train)' in message)
    assert messages.index(line) < start


@pytest.mark.parametrize('classes', [NUM_CLASSES - 1, NUM_CLASSES, NUM_CLASSES + 1])
def test_a_teacher_of_other_classes_than_the_data_is_not_evaluated(tmp_path, monkeypatch, classes):
    monkeypatch.setattr(TinyImages, 'METAINFO', dict(classes=tuple('abcde')))
    head = dict(teacher_classifier()['head'], num_classes=classes)
    runner = make_runner(tmp_path, 1, model=distiller_cfg(teacher=teacher_classifier(head=head)))
    messages = messages_of(runner)

    runner.train()

    refusal = f'The teacher is not evaluated: it has {classes} classes, the validation data 5; SHA'
    found = [message for message in messages if message.startswith(refusal)]
    assert len(found) == (classes != NUM_CLASSES)
    assert any(m.startswith('The teacher on ') for m in messages) == (classes == NUM_CLASSES)
    assert messages[-1].startswith('The teacher is what it was')


@pytest.mark.parametrize(
    ('heads', 'count'),
    [
        (dict(head=4), 4),
        (dict(bbox_head=80, rpn_head=1), 80),
        (dict(roi_head=dict(bbox_head=[80, 80, 80]), rpn_head=1), 80),
        (dict(roi_head=dict(bbox_head=80), panoptic_fusion_head=133, semantic_head=54), 133),
        (dict(decode_head=[19, 19], auxiliary_head=21), 19),
        (dict(rpn_head=1), None),
    ],
    ids=str,
)
def test_the_classes_of_a_model(heads, count):
    assert count_classes(with_heads(heads)) == count


def with_heads(heads: dict | list | int) -> nn.Module:
    """Make a module of heads with so many classes."""
    if isinstance(heads, list):
        return nn.ModuleList(map(with_heads, heads))
    module = nn.Module()
    if isinstance(heads, int):
        module.num_classes = heads
        return module
    for name, head in heads.items():
        module.add_module(name, with_heads(head))
    return module


@pytest.mark.usefixtures('in_float64')
@pytest.mark.parametrize('train_bn', [False, True])
def test_the_teacher_predicts_in_eval_mode_on_its_own_normalisation(teacher, train_bn):
    model, path = teacher
    distiller = build_distiller(
        teacher=teacher_classifier(data_preprocessor=OTHER_PIXELS),
        teacher_ckpt=path,
        teacher_options=dict(train_bn=train_bn),
    )
    samples = [TinyImages(flip=False).prepare_data(i) for i in range(3)]
    data = dict(
        inputs=torch.stack([sample['inputs'] for sample in samples]),
        data_samples=[sample['data_samples'] for sample in samples],
    )

    predictions = distiller.teacher_step(copy.deepcopy(data))

    with torch.no_grad():
        expected = model.eval()(model.data_preprocessor(data)['inputs'], mode='tensor')
    scores = torch.stack([prediction.pred_score for prediction in predictions])
    assert_close64(scores, expected.softmax(1))


def test_the_digest_is_the_same_before_and_after(tmp_path):
    cfg = distiller_cfg(teacher_options=dict(train_bn=True))
    runner = make_runner(tmp_path, 1, model=cfg)
    messages = messages_of(runner)
    before = combined(state_digests(runner.model.teacher))

    runner.train()

    assert combined(state_digests(runner.model.teacher)) == before
    assert [message for message in messages if before in message] == [
        checked(messages),
        f'The teacher is what it was: SHA-256 {before}',
    ]


def test_a_teacher_that_was_changed_is_an_error(tmp_path):
    runner = make_runner(tmp_path, 1)

    def change(*args: Any) -> None:
        runner.model.teacher.head.fc.bias.data[0] += 1
        runner.model.teacher.backbone.layer1[0].bn1.running_mean[0] += 1

    runner.model.student.head.register_forward_hook(change)

    message = (
        r'changed 2 weights or buffers .*\(backbone\.layer1\.0\.bn1\.running_mean, head\.fc\.'
    )
    with pytest.raises(RuntimeError, match=message):
        runner.train()


def test_the_check_does_not_disturb_the_training(tmp_path):
    checked_run = make_runner(tmp_path / 'a', 1)
    checked_run.train()
    draws = torch.rand(3)
    plain = make_runner(tmp_path / 'b', custom_hooks=[])
    plain.train()

    assert torch.equal(torch.rand(3), draws)
    assert_same_state(state_of(checked_run.model), state_of(plain.model))


@METRICS.register_module(force=True)
class CountsImages(BaseMetric):
    """Like MMDetection's CocoMetric: without ``img_ids`` it counts on all images of its file."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.img_ids: list[int] | None = None

    def process(self, data_batch, data_samples) -> None:
        self.results += [sample['img_id'] for sample in data_samples]

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        return dict(missed=float(len(set(self.img_ids or range(100)) - set(results))))


def test_a_metric_counts_the_images_of_the_batches_alone(tmp_path):
    runner = make_runner(tmp_path, 1, val_evaluator=dict(type='CountsImages'))
    messages = messages_of(runner)
    predict = runner.model.teacher_step

    def with_ids(data: dict) -> list:
        samples = predict(data)
        for index, sample in enumerate(samples):
            sample.set_field(index, 'img_id', field_type='metainfo')
        return samples

    runner.model.teacher_step = with_ids
    runner.call_hook = stop_after('before_train', runner.call_hook)

    with pytest.raises(StopIteration):
        runner.train()

    assert 'missed: 0' in checked(messages)


def stop_after(stage: str, call_hook: Any) -> Any:
    """End a training after the hooks of a stage."""

    def call(name: str, **kwargs: Any) -> None:
        call_hook(name, **kwargs)
        if name == stage:
            raise StopIteration

    return call


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        (dict(model=classifier()), ValueError, 'the model is a ImageClassifier, .* Distiller'),
        (NO_VALIDATION, ValueError, 'expected val_dataloader, val_evaluator'),
    ],
    ids=['no distiller', 'no validation'],
)
def test_what_cannot_be_checked_is_refused(tmp_path, kwargs, error, message):
    runner = make_runner(tmp_path, 1, **kwargs)

    with pytest.raises(error, match=message):
        runner.train()


@pytest.mark.parametrize('value', [0, -2, 1.5])
def test_a_wrong_number_of_batches_is_refused(value):
    with pytest.raises(ValueError, match=r'num_batches=.*expected a number of batches'):
        CheckTeacherHook(num_batches=value)


def test_digests_tell_names_shapes_dtypes_and_values_apart():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = state_digests(model)

    assert before.keys() == {*dict(model.named_parameters()), *dict(model.named_buffers())}
    assert state_digests(model) == before
    model[1].running_var[1] += 1e-6
    after = state_digests(model)
    assert [name for name in before if after[name] != before[name]] == ['1.running_var']
    assert combined(after) != combined(before)
    assert state_digests(model.double())['0.bias'] != before['0.bias']
    renamed = {name.replace('0', '2'): digest for name, digest in before.items()}
    assert combined(renamed) != combined(before)
