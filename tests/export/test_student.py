"""The exported student is an ordinary model with an ordinary config."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from reviewkd_mm.export.student import build_student, export_student, student_config
from reviewkd_mm.models.distillers import Distiller
from tests.models.distillers.helpers import (
    PIXELS,
    assert_same_state,
    batch,
    build,
    build_distiller,
    classifier,
    distiller_cfg,
    review,
    runner_cfg,
    state_of,
)
from tests.numbers import assert_close64

HOOKS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'hooks.py'
NOWHERE = dict(teacher='/nowhere/teacher.py', teacher_ckpt='/nowhere/teacher.pth')


def training(tmp_path: Path, **kwargs) -> Config:
    """Config of a distillation whose teacher cannot be found any more."""
    return runner_cfg(distiller_cfg(**NOWHERE), tmp_path, **kwargs)


def save(distiller: Distiller, path: Path, **kwargs) -> Path:
    saved = dict(state_dict=distiller.state_dict(), meta=dict(epoch=3, cfg='teacher', seed=1))
    torch.save({**saved, 'optimizer': dict(state={}), **kwargs}, path)
    return path


def trained_like() -> Distiller:
    """A distiller whose weights and statistics are not those that one starts with."""
    distiller = build_distiller()
    torch.manual_seed(8)
    distiller.init_weights()
    distiller.train().loss(*batch())
    return distiller.eval()


def stock_model(config: Path, checkpoint: Path) -> nn.Module:
    """Build a model as one does who knows nothing of distillation."""
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    load_checkpoint(model, str(checkpoint), map_location='cpu', strict=True)
    return model.eval()


def test_exported_classifier_is_a_stock_model_with_the_same_logits(tmp_path):
    distiller = trained_like()
    checkpoint = save(distiller, tmp_path / 'epoch_3.pth')

    out, config = export_student(training(tmp_path), checkpoint, tmp_path / 'out' / 'student.pth')

    assert (out, config) == (tmp_path / 'out/student.pth', tmp_path / 'out/student.py')
    model = stock_model(config, out)
    assert type(model).__name__ == 'ImageClassifier'
    assert_same_state(state_of(model), state_of(distiller.student))
    inputs, _ = batch()
    with torch.no_grad():
        actual, expected = (m.double()(inputs.double(), mode='tensor') for m in (model, distiller))
    assert_close64(actual, expected)


def test_exported_checkpoint_holds_the_student_alone(tmp_path):
    distiller = trained_like()
    message_hub = dict(runtime_info=dict(cfg='teacher'))
    checkpoint = save(distiller, tmp_path / 'epoch_3.pth', message_hub=message_hub)

    out, config = export_student(training(tmp_path), checkpoint, tmp_path / 'student.pth')

    saved = torch.load(out, weights_only=True)
    assert saved.keys() == {'meta', 'state_dict'}
    assert saved['state_dict'].keys() == distiller.student.state_dict().keys()
    assert saved['meta'] == dict(epoch=3)
    text = config.read_text()
    assert not any(word in text for word in ('teacher', 'transfers', 'Distiller', 'nowhere'))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'epoch_3.pth',
        'student.pth',
        'student.py',
    ]


def test_exported_config_keeps_what_evaluation_needs(tmp_path):
    cfg = training(tmp_path)

    stock = student_config(cfg)

    for key in ('default_scope', 'val_dataloader', 'val_evaluator', 'val_cfg', 'train_cfg'):
        assert stock[key] == cfg[key]
    assert stock.model == classifier()
    assert 'work_dir' not in stock
    assert 'custom_imports' not in stock


def of_ours(*names: str) -> list[dict[str, str]]:
    return [dict(type=f'reviewkd_mm.{name}') for name in names]


def test_what_only_distillation_needs_is_left_out(tmp_path):
    hooks = Config.fromfile(HOOKS)
    # As a config has it that takes it from another package.
    checkpoint = dict(type='reviewkd_mm.AtomicCheckpointHook', interval=2, _scope_='reviewkd_mm')
    cfg = training(
        tmp_path,
        **hooks,
        default_hooks=dict(
            hooks.distillation_hooks, logger=dict(type='LoggerHook'), checkpoint=checkpoint
        ),
        custom_hooks=[dict(type='EMAHook'), *of_ours('ExactResumeHook', 'ExportStudentHook')],
        optim_wrapper=dict(
            type='reviewkd_mm.AmpOptimWrapper', optimizer=dict(type='AdamW', betas=(0.9, 0.99))
        ),
        warmup_epochs=20,
        student=classifier(),
        review=review(),
        review_imagenet=dict(teacher=['neck']),
        compare=dict(connector=dict(type='ReviewConnector')),
        load_from='/nowhere/start.pth',
        resume=True,
    )
    kept = copy.deepcopy(cfg)

    stock = student_config(cfg)

    assert stock.custom_hooks == [dict(type='EMAHook')]
    assert stock.default_hooks == dict(
        logger=dict(type='LoggerHook'), checkpoint=dict(type='CheckpointHook', interval=2)
    )
    assert stock.optim_wrapper == dict(
        type='AmpOptimWrapper', optimizer=dict(type='AdamW', betas=(0.9, 0.99))
    )
    assert set(stock) == {*training(tmp_path), 'custom_hooks'} - {'work_dir'}
    assert cfg._cfg_dict == kept._cfg_dict


def test_data_preprocessor_of_the_top_level_goes_into_the_model(tmp_path):
    student = classifier(type='ImageClassifier')
    del student['data_preprocessor']
    model = distiller_cfg(student=student, **NOWHERE)

    stock = student_config(runner_cfg(model, tmp_path, data_preprocessor=PIXELS))

    assert stock.model.data_preprocessor == PIXELS
    assert build_student(stock).data_preprocessor.mean.flatten().tolist() == pytest.approx(
        PIXELS['mean']
    )


def test_student_given_as_a_path(tmp_path):
    model = distiller_cfg(student='reviewkd_mm::baselines/resnet20_cifar100.py', **NOWHERE)

    stock = student_config(runner_cfg(model, tmp_path))

    assert stock.model.backbone.depth == 20
    assert stock.model.data_preprocessor.mean == [125.3, 123.0, 113.9]


@pytest.mark.parametrize('scope', ['mmdet', None])
def test_student_of_another_scope_than_the_training(tmp_path, scope):
    cfg = training(tmp_path, default_scope=scope)
    distiller = trained_like()

    out, config = export_student(cfg, save(distiller, tmp_path / 'a.pth'), tmp_path / 's.pth')

    model = stock_model(config, out)
    assert type(model.neck).__module__.startswith('mmpretrain.')
    assert Config.fromfile(config).default_scope == (scope or 'mmpretrain')


def test_an_ordinary_training_exports_its_model(tmp_path):
    model = build(classifier(), seed=2)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    cfg = runner_cfg(classifier(), tmp_path)

    out, config = export_student(cfg, tmp_path / 'a.pth', tmp_path / 's.pth')

    assert_same_state(state_of(stock_model(config, out)), state_of(model))


def test_weights_of_an_ema_are_exported(tmp_path):
    distiller = trained_like()
    ema = dict(ema_state_dict={'module.student.head.fc.bias': torch.ones(5)})
    checkpoint = save(distiller, tmp_path / 'a.pth', **ema)

    out, _ = export_student(training(tmp_path), checkpoint, tmp_path / 's.pth')

    assert_same_state(torch.load(out)['state_dict'], dict(distiller.student.state_dict()))


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (None, FileNotFoundError, r"checkpoint='.*a\.pth': there is no such file"),
        (lambda w: w.pop('student.head.fc.bias'), RuntimeError, r'1 missing \(head\.fc\.bias\)'),
        (lambda w: w.update({'student.x': torch.ones(1)}), RuntimeError, r'1 unexpected \(x\)'),
    ],
)
def test_nothing_is_written_where_the_checkpoint_does_not_fit(tmp_path, change, error, message):
    weights = build_distiller().state_dict()
    if change:
        change(weights)
        torch.save(dict(state_dict=weights), tmp_path / 'a.pth')

    with pytest.raises(error, match=message):
        export_student(training(tmp_path), tmp_path / 'a.pth', tmp_path / 'new' / 's.pth')

    assert not (tmp_path / 'new').exists()


def test_building_a_student_leaves_the_random_state(tmp_path):
    stock = student_config(training(tmp_path))
    torch.manual_seed(0)
    state = torch.get_rng_state()

    build_student(stock)

    assert torch.equal(torch.get_rng_state(), state)


def test_a_distiller_is_no_ordinary_model(tmp_path):
    with pytest.raises(ValueError, match='got a distiller'):
        build_student(training(tmp_path))
