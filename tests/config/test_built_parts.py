"""Classes that do not exist, and settings that they lack, are refused before anything is built."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from torch import nn

from reviewkd_mm.cli import find_configs
from reviewkd_mm.config import read_config
from reviewkd_mm.config.built_parts import check_built_parts, check_model, find_settings
from reviewkd_mm.config.files import config_root
from reviewkd_mm.registry import MODELS
from tests.stress.trainings import REMOVED, base_config, changed

EVERY = 60  # of the zoos' configs one in so many
# Configs that cannot be trained as they are: what they name is not in their package.
BROKEN = ('_vqa', '_caption', '_refcoco', '_retrieval', '_nocaps', '_headless', 'd2_')


def zoo_configs() -> list[Path]:
    files = []
    for package in ('mmdet', 'mmpretrain'):
        folder = config_root(package)
        found = sorted(file for file in folder.rglob('*.py') if '_base_' not in file.parts)
        files += [file for file in found if not any(name in file.stem for name in BROKEN)][::EVERY]
    return files


FILES = [*map(Path, find_configs()), *zoo_configs()]


@pytest.mark.parametrize('file', FILES, ids=lambda file: f'{file.parent.name}/{file.stem}')
def test_a_good_config_passes(file):
    check_built_parts(read_config(file))


@pytest.mark.parametrize('pair', ['classifier', 'detector'])
def test_a_pair_passes(pair, tmp_path):
    check_built_parts(Config(base_config(pair, tmp_path)))


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('model.type', 'reviewkd_mm.Distillr', r"model\.type='reviewkd_mm\.Dis.*'Distiller'"),
        ('model.student.neck.type', 'FPM', r"model\.student\.neck\.type='FPM': .* 'FPN'"),
        ('model.teacher.backbone.type', 'mdet.ResNet', r"it is in 'mm\w+': write 'mm\w+\.ResNet'"),
        ('model.student.backbone.type', 7, r'model\.student\.backbone\.type=7: expected the name'),
        (
            'model.student.train_cfg.assigner.type',
            'MaxIouAssigner',
            r"assigner\.type='MaxIouAssigner': .* 'mmdet'; did you mean 'MaxIoUAssigner'",
        ),
        ('model.teacher.neck.num_out', 5, r"teacher\.neck: FPN has no .*'num_out'=5; .*outs'"),
        ('model.transfers.review.loss.weight', 2, r"review\.loss: HCLLoss has .*'loss_weight'"),
        ('model.student.nek', {}, r"model\.student: \S+ has no setting 'nek'.*'neck'"),
        ('train_dataloader.dataset.dataroot', 'x', r"CocoDataset has no .*'data_root'"),
        ('train_dataloader.dataset.type', None, r'^train_dataloader\.dataset\.type=None: exp'),
        ('train_dataloader.batchsize', 2, r"^train_dataloader: a dataloader .*'batch_size'"),
        ('train_dataloader.sampler.type', 'Sampler', r"sampler\.type='Sampler': there is no such"),
        ('val_dataloader.dataset.pipeline.1.scales', 1, r"pipeline\.1: Resize has .*'scale'"),
        ('val_evaluator.type', 'CocoMetrik', r"val_evaluator\.type='CocoMetrik': .*'CocoMetric'"),
        ('optim_wrapper.optimizer.momentm', 1, r"optim_wrapper\.optimizer: SGD .*'momentum'"),
        ('optim_wrapper.clip', {}, r"optim_wrapper: OptimWrapper has no .*'clip_grad'"),
        ('param_scheduler.0.type', 'MultistepLR', r"param_scheduler\.0\.type=.*'MultiStepLR'"),
        ('param_scheduler.0.milestone', [], r"param_scheduler\.0: .*'milestones'"),
        ('custom_hooks', [dict(interval=1)], r"custom_hooks\.0: the key 'type' is missing"),
        ('default_hooks.logger.type', 'LogHook', r'default_hooks\.logger\.type='),
        ('model.student', REMOVED, r"^model: the key 'student' is missing, which"),
        ('model.transfers.review.connector.norm_cfg', dict(type='BM'), r"norm_cfg\.type='BM': "),
        ('train_cfg.max_epoch', 3, r"train_cfg: EpochBasedTrainLoop has no .*'max_epochs'"),
        ('val_cfg', dict(fp61=True), r"val_cfg: ValLoop has no setting 'fp61'=True; .*'fp16'"),
        ('default_scope', 'mmdt', r"CocoDataset': .*'mmdt'; it is in 'mmdet'.*default_scope"),
    ],
)  # fmt: skip
def test_key_value_and_the_nearest_names_are_given(tmp_path, key, value, message):
    cfg = Config(changed(base_config('detector', tmp_path), {key: value}))
    with pytest.raises(ValueError, match=message):
        check_built_parts(cfg)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('custom_hooks', [dict(type='EMAHook', priority='LOW')]),
        ('param_scheduler.0.convert_to_iter_based', True),
        ('optim_wrapper.paramwise_cfg', dict(bias_lr_mult=2.0)),
        ('optim_wrapper', dict(constructor='Mine', optimizer=dict(type='Mine', depth=3))),
        ('model.student.train_cfg', dict(backbone=dict(name='build_resnet'))),
        ('val_evaluator', dict(metrics=[dict(type='CocoMetric')])),
        ('default_hooks.logger', None),
        ('train_dataloader.num_batch_per_epoch', 3),
    ],
)
def test_what_is_taken_out_before_the_build_passes(tmp_path, key, value):
    check_built_parts(Config(changed(base_config('detector', tmp_path), {key: value})))


def test_the_parts_of_a_class_of_ones_own_pass(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'Passes', Passes)
    check_model(dict(type='reviewkd_mm.Passes', size=1, depth=2, width=3), 'model')
    with pytest.raises(ValueError, match=r"^model: reviewkd_mm\.Passes has no setting 'head'"):
        check_model(dict(type='reviewkd_mm.Passes', size=1, head=3), 'model')

    monkeypatch.setitem(MODELS.module_dict, 'Keeps', Keeps)
    check_model(dict(type='reviewkd_mm.Keeps', neck=dict(type='nothing'), head=dict()), 'model')


def test_a_strategy_may_bring_its_own_optimizers(tmp_path):
    change = {'optim_wrapper.type': 'OwnWrapper', 'strategy': dict(type='DeepSpeedStrategy')}
    check_built_parts(Config(changed(base_config('detector', tmp_path), change)))


def test_a_class_is_searched_where_it_would_be_built():
    head = dict(type='LinearClsHead', num_classes=2, in_channels=4)
    model = dict(type='ImageClassifier', _scope_='mmpretrain', backbone=dict(), head=head)

    check_model(dict(model, backbone=None), 'student')
    with pytest.raises(ValueError, match=r"^student\.backbone: the key 'type' is missing, got"):
        check_model(model, 'student')
    with pytest.raises(ValueError, match=r"^student\.head: LinearClsHead has .*'classes'=3"):
        check_model(dict(model, backbone=None, head=dict(head, classes=3)), 'student')


class Base:
    def __init__(self, depth: int, *, width: int = 1) -> None: ...


class Passes(Base):
    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class PassesAsOfOld(Base):
    def __init__(self, size: int, **kwargs: Any) -> None:
        super(PassesAsOfOld, self).__init__(size, **kwargs)  # noqa: UP008


class Inherits(Passes): ...


class Reads(Base):
    def __init__(self, **kwargs: Any) -> None:
        self.size = kwargs.pop('size')
        super().__init__(**kwargs)


class Keeps(Base):
    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs


class Makes(Base):
    def __new__(cls, **kwargs: Any) -> Makes:
        return super().__new__(cls)


def renaming(init: Any) -> Any:
    @wraps(init)
    def wrapper(self: Any, **kwargs: Any) -> None:
        init(self, **{name.removeprefix('old_'): value for name, value in kwargs.items()})

    return wrapper


class Renames(Base):
    __init__ = renaming(Base.__init__)


class Meta(type):
    def __call__(cls, **kwargs: Any) -> Any:
        return super().__call__(1)


class OfMeta(Base, metaclass=Meta): ...


def function(size: int = 1) -> None: ...


def open_function(**kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    ('built', 'expected'),
    [
        (Base, {'depth', 'width'}),
        (Passes, {'size', 'depth', 'width'}),
        (PassesAsOfOld, {'size', 'depth', 'width'}),
        (Inherits, {'size', 'depth', 'width'}),
        (nn.Identity, None),
        (Reads, None),
        (Keeps, None),
        (Makes, None),
        (Renames, None),
        (OfMeta, None),
        (function, {'size'}),
        (open_function, None),
        (3, None),
    ],
)
def test_the_settings_of_a_class_where_all_are_known(built, expected):
    assert find_settings(built) == expected
