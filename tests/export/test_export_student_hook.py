"""The student of the best and of the last checkpoint is exported by itself."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS, MODELS, init_default_scope
from torch import nn

from tests.models.distillers.helpers import (
    NO_VALIDATION,
    assert_same_state,
    classifier,
    distiller_cfg,
    state_of,
    train,
)

EXPORT = dict(custom_hooks=[dict(type='reviewkd_mm.ExportStudentHook')])
EXPORTED = {'student_best.pth', 'student_best.py', 'student_last.pth', 'student_last.py'}


@METRICS.register_module(force=True)
class Scripted(BaseMetric):
    """A metric whose value in each validation is given."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = list(values)

    def process(self, data_batch, data_samples) -> None:
        self.results.append(0)

    def compute_metrics(self, results) -> dict[str, float]:
        return dict(score=self.values.pop(0))


def options(values: list[float], **kwargs) -> dict:
    checkpoint = dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='score', rule='greater'
    )
    return dict(
        EXPORT,
        val_evaluator=dict(type='Scripted', values=values),
        train_cfg=dict(by_epoch=True, max_epochs=len(values), val_interval=1),
        default_hooks=dict(checkpoint=checkpoint),
        **kwargs,
    )


def exported(folder: Path) -> set[str]:
    return {path.name for path in folder.glob('student_*')}


def weights(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=False)['state_dict']
    return {
        name.removeprefix('student.'): v for name, v in state.items() if 'transfers' not in name
    }


def stock_model(path: Path) -> nn.Module:
    """Build a model of exported files as one does who knows nothing of distillation."""
    cfg = Config.fromfile(path.with_suffix('.py'))
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    model.load_state_dict(torch.load(path)['state_dict'])
    return model


def test_best_and_last_are_exported_as_stock_models(tmp_path):
    runner = train(distiller_cfg(), tmp_path, **options([0.1, 0.9, 0.5]))

    assert exported(tmp_path) == EXPORTED
    best = tmp_path / 'best_score_epoch_2.pth'
    assert_same_state(weights(tmp_path / 'student_best.pth'), weights(best))
    last = weights(tmp_path / 'student_last.pth')
    assert_same_state(last, dict(runner.model.student.state_dict()))
    assert not torch.equal(last['head.fc.weight'], weights(best)['head.fc.weight'])
    for name in ('student_best.pth', 'student_last.pth'):
        assert type(stock_model(tmp_path / name)).__name__ == 'ImageClassifier'


def test_without_a_validation_there_is_no_best(tmp_path):
    train(distiller_cfg(), tmp_path, **EXPORT, **NO_VALIDATION)

    assert exported(tmp_path) == {'student_last.pth', 'student_last.py'}


def test_a_training_without_a_distiller_exports_nothing(tmp_path):
    train(classifier(), tmp_path, **options([0.1]))

    assert not exported(tmp_path)


def test_a_resumed_training_exports_on(tmp_path):
    train(distiller_cfg(), tmp_path / 'a', **options([0.9]))
    best = weights(tmp_path / 'a' / 'student_best.pth')
    resume = dict(load_from=str(tmp_path / 'a' / 'epoch_1.pth'), resume=True)
    cfg = options([0.5, 0.6], **resume)

    train(distiller_cfg(), tmp_path / 'a', **cfg)

    assert exported(tmp_path / 'a') == EXPORTED
    assert_same_state(weights(tmp_path / 'a' / 'student_best.pth'), best)
    last = torch.load(tmp_path / 'a' / 'student_last.pth', weights_only=False)
    assert last['meta']['epoch'] == 2


def test_a_training_resumed_elsewhere_does_not_need_the_best_of_before(tmp_path):
    train(distiller_cfg(), tmp_path / 'a', **options([0.9]))
    (tmp_path / 'a' / 'epoch_1.pth').rename(tmp_path / 'moved.pth')
    (tmp_path / 'a' / 'best_score_epoch_1.pth').unlink()
    resume = dict(load_from=str(tmp_path / 'moved.pth'), resume=True)

    train(distiller_cfg(), tmp_path / 'b', **options([0.5, 0.6], **resume))

    assert exported(tmp_path / 'b') == {'student_last.pth', 'student_last.py'}


def test_exporting_does_not_disturb_the_training(tmp_path):
    with_hook = train(distiller_cfg(), tmp_path / 'with', **options([0.1, 0.2]))
    draws = torch.rand(3)
    cfg = dict(options([0.1, 0.2]), custom_hooks=[])
    without = train(distiller_cfg(), tmp_path / 'without', **cfg)

    assert torch.equal(draws, torch.rand(3))
    assert_same_state(state_of(with_hook.model), state_of(without.model))
