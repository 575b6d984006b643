"""The pairs that the benchmark knows, and the models and batches that it builds."""

from __future__ import annotations

import logging

import pytest
import torch
from mmengine.optim import OptimWrapper

from reviewkd_mm.engine.optimizers import AmpOptimWrapper
from tests.integration.detection import retinanet
from tests.models.distillers.helpers import NUM_CLASSES
from tests.tools.step_benchmark import load, write_classifiers, write_detectors

models, rows = load('step_models'), load('step_rows')
pairs = load('step_pairs')


@pytest.mark.parametrize('pair', pairs.PAIRS.values(), ids=lambda pair: pair.name)
def test_pairs_are_distillers(pair):
    cfg = models.load_pair(str(pair.config))
    assert set(cfg.model.transfers) == {'review'}
    expected = dict(mmpretrain=((32, 64), (224, 8)), mmdet=((416, 2),))
    assert (pair.image_size, pair.batch_size) in expected[cfg.default_scope]


def test_a_config_of_ones_own_is_named_by_its_file():
    pair = pairs.own_pair('some/where/mine.py')
    assert (pair.name, str(pair.config)) == ('mine', 'some/where/mine.py')


def test_a_config_without_a_distiller_is_refused(tmp_path):
    file = tmp_path / 'alone.py'
    file.write_text(f"default_scope = 'mmdet'\nmodel = {retinanet()!r}\n")
    with pytest.raises(SystemExit, match=r'error: --config .*alone.py: its model has no student'):
        models.load_pair(str(file))


@pytest.mark.parametrize('write', [write_classifiers, write_detectors])
def test_a_batch_is_what_the_student_trains_on(write, tmp_path):
    student = models.build_alone(models.load_pair(write(tmp_path)), 'cpu')
    batch = models.generate_batch(student, batch_size=2, image_size=64)

    assert len(batch['inputs']) == len(batch['data_samples']) == 2
    assert all(image.shape == (3, 64, 64) for image in batch['inputs'])
    assert all(image.dtype == torch.uint8 for image in batch['inputs'])
    assert student.training
    losses = student.train_step(batch, models.build_optimizer(student, amp=False))
    assert torch.isfinite(losses['loss'])
    if write is write_detectors:
        objects = [sample.gt_instances for sample in batch['data_samples']]
        assert [len(boxes) for boxes in objects] == [models.BOXES] * 2
        assert all(hasattr(boxes, 'masks') for boxes in objects)
    else:
        assert all(0 <= s.gt_label < NUM_CLASSES for s in batch['data_samples'])


def test_settings_of_the_row_replace_those_of_the_config(tmp_path):
    cfg = models.load_pair(write_classifiers(tmp_path, channels_last=False))
    assert models.build_distiller(cfg, rows.Options(), 'cpu').channels_last
    assert not models.build_distiller(cfg, rows.ALL_OFF, 'cpu').channels_last
    assert cfg.model.channels_last is False


def test_optimizers_change_nothing():
    model = torch.nn.Linear(2, 2)
    for amp, kind in ((False, OptimWrapper), (True, AmpOptimWrapper)):
        wrapper = models.build_optimizer(model, amp)
        assert type(wrapper) is kind
        weight = model.weight.detach().clone()
        wrapper.update_params(model(torch.ones(1, 2)).sum())
        assert torch.equal(model.weight, weight)
    assert wrapper.cast_dtype == torch.bfloat16


def test_logs_are_kept_quiet_for_a_while():
    with models.quiet():
        assert not logging.getLogger('any').isEnabledFor(logging.INFO)
        assert logging.getLogger('any').isEnabledFor(logging.WARNING)
    assert logging.root.manager.disable == logging.NOTSET
