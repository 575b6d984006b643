"""What of a training's config is wrong whatever its classes are, said before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import OPTIMIZERS
from torch import nn

from reviewkd_mm.checks.data_sets import check_data_sets, find_empty_files
from reviewkd_mm.checks.missing import (
    describe_weights,
    find_missing_data,
    find_missing_packages,
    is_remote,
)
from reviewkd_mm.config.built_parts import check_built_parts, find_class
from reviewkd_mm.config.parts import PRETRAINED, innermost_dataset, is_distiller, walk
from reviewkd_mm.errors import ConfigError, MissingFileError, find_user_error
from reviewkd_mm.files.safe_loading import DamagedError, check_whole
from reviewkd_mm.models.distillers.model_source import student_source
from reviewkd_mm.registry import SCOPE

TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper')
VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')
LENGTHS = ('max_epochs', 'max_iters')
# Strategies of MMEngine's FlexibleRunner that register optimizers of their own.
BRING_OPTIMIZERS = ('DeepSpeedStrategy', 'ColossalAIStrategy')


def check_before_training(cfg: Config) -> None:
    """Check what a training would stumble over late, or in words that name no key.

    Args:
        cfg (Config): The config, as the Runner takes it.

    Raises:
        ValueError: If a key is missing, or has a value of another kind than expected.
        FileNotFoundError: If a checkpoint is missing.
    """
    _check_model(cfg)
    _check_all_or_none(cfg, TRAINING, required=True)
    _check_all_or_none(cfg, VALIDATION, required=False)
    _check_optim_wrapper(cfg.optim_wrapper)
    _check_length(cfg.train_cfg)
    for key in ('train_dataloader', 'val_dataloader'):
        _check_dataloader(key, cfg.get(key))
    _check_load_from(cfg)
    _check_pretrained(cfg)
    missing = find_missing_packages(_without_test(cfg))
    if missing:
        raise ConfigError('; '.join(missing))
    check_built_parts(cfg)
    check_data_sets(cfg)
    if _strategy(cfg) not in BRING_OPTIMIZERS:
        _check_optimizer(cfg.optim_wrapper, cfg.get('default_scope'))


@contextmanager
def name_lost_data(cfg: Config) -> Iterator[None]:
    """Name the data that a training did not find, or found empty, and its config keys.

    Args:
        cfg (Config): The config, as the Runner takes it.

    Raises:
        FileNotFoundError: In place of the error of what reads the data.
    """
    try:
        yield
    except (FileNotFoundError, cv2.error) as error:  # OpenCV's has no name of a file.
        cfg = _without_test(cfg)
        empty = find_empty_files(cfg) if isinstance(error, cv2.error) else []
        missing = find_missing_data(cfg)
        if find_user_error(error) is not None or not (empty or missing):
            raise
        raise MissingFileError(
            f'the data is not there: {"; ".join([*empty, *missing])}. Put it there, or set the '
            'keys in brackets to where it is'
        ) from error


def _check_model(cfg: Config) -> None:
    model = cfg.get('model')
    if not isinstance(model, Mapping):
        raise ConfigError(f"model={model!r}: expected a dict with the key 'type'")
    if 'type' not in model:
        keys = ', '.join(map(repr, model)) or 'no key'
        raise ConfigError(f"model: the key 'type' is missing, such as '{SCOPE}.Distiller': {keys}")


def _check_all_or_none(cfg: Config, keys: tuple[str, ...], required: bool) -> None:
    missing = [key for key in keys if cfg.get(key) is None]
    if missing and (required or len(missing) < len(keys)):
        reason = 'a training needs' if required else 'a validation needs all or none of'
        raise ConfigError(f'{", ".join(missing)} is missing: {reason} {", ".join(keys)}')


def _strategy(cfg: Config) -> str:
    strategy = cfg.get('strategy')
    name = strategy.get('type') if isinstance(strategy, Mapping) else None
    return str(name or '').rpartition('.')[2]


def _check_optim_wrapper(wrapper: Any) -> None:
    if not isinstance(wrapper, Mapping):
        raise ConfigError(f'optim_wrapper={wrapper!r}: expected a dict with the key optimizer')
    parts = [wrapper, *(value for value in wrapper.values() if isinstance(value, Mapping))]
    if 'constructor' not in wrapper and not any('optimizer' in part for part in parts):
        raise ConfigError(
            f"optim_wrapper: the key 'optimizer' is missing, got {[*wrapper]}; expected one such "
            "as optimizer=dict(type='SGD', lr=0.1)"
        )


def _check_optimizer(wrapper: Mapping, scope: str | None) -> None:
    optimizer = wrapper.get('optimizer')
    if 'constructor' in wrapper or not isinstance(optimizer, Mapping):
        return
    with OPTIMIZERS.switch_scope_and_registry(scope) as registry:
        cls = find_class(optimizer['type'], OPTIMIZERS)
        bases = getattr(cls, '__mro__', ())
        if any(base.__module__.startswith('torch.distributed.') for base in bases):
            return  # It needs the other processes.
        try:
            registry.build({**optimizer, 'params': [nn.Parameter(torch.zeros(1))]})
        except ValueError as error:
            raise ConfigError(
                f'optim_wrapper.optimizer: expected other settings than {dict(optimizer)} '
                f'({error})'
            ) from error
        except Exception:  # What is no wrong number is explained when the real one is built.
            return


def _check_length(train_cfg: Any) -> None:
    if not isinstance(train_cfg, Mapping):
        return
    if 'type' not in train_cfg and not any(name in train_cfg for name in LENGTHS):
        raise ConfigError(f'train_cfg: max_epochs is missing, got {dict(train_cfg)}')
    for name in LENGTHS:
        value = train_cfg.get(name)
        if value is not None and not (isinstance(value, Integral) and value > 0):
            raise ConfigError(f'train_cfg.{name}={value!r}: expected a number of at least 1')


def _check_dataloader(key: str, dataloader: Any) -> None:
    if not isinstance(dataloader, Mapping):
        return
    if dataloader.get('dataset') is None:
        raise ConfigError(f"{key}: the key 'dataset' is missing, got {', '.join(dataloader)}")
    size = dataloader.get('batch_size')
    if size is not None and not (isinstance(size, Integral) and size > 0):
        raise ConfigError(f'{key}.batch_size={size!r}: expected a number of at least 1')
    for name in ('pipeline', 'indices'):
        value = innermost_dataset(dataloader['dataset']).get(name)
        if isinstance(value, (list, tuple)) and not value:
            raise ConfigError(f'{key}.dataset.{name}={value!r}: expected at least one entry')


def _without_test(cfg: Config) -> Config:
    return Config({key: value for key, value in cfg.items() if not key.startswith('test_')})


def _check_load_from(cfg: Config) -> None:
    checkpoint = cfg.get('load_from')
    if checkpoint is None:
        return
    if not isinstance(checkpoint, str) or not checkpoint:
        raise ConfigError(f'load_from={checkpoint!r}: expected the path or URL of a checkpoint')
    # Strategies that shard a training save folders.
    if _strategy(cfg) and Path(checkpoint).expanduser().is_dir():
        return
    missing, _ = describe_weights('load_from', checkpoint)
    if missing:
        raise MissingFileError(missing)
    if is_remote(checkpoint):
        return
    try:
        check_whole(Path(checkpoint).expanduser())
    except DamagedError as error:
        raise ConfigError(f"load_from='{checkpoint}': {error}") from error


def _check_pretrained(cfg: Config) -> None:
    """Check the weights with which parts of the student start, before MMEngine looks for them."""
    prefix = 'model.student' if is_distiller(cfg.model) else 'model'
    for key, part in walk(student_source(cfg).cfg, prefix):
        if not isinstance(part, Mapping) or part.get('type') not in PRETRAINED:
            continue
        missing, _ = describe_weights(f'{key}.checkpoint', str(part.get('checkpoint')))
        if missing:
            raise MissingFileError(missing)
