"""Check of a config what a training would stumble over, without data, downloads or training."""

from __future__ import annotations

import copy
import logging
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from reviewkd_mm.checks.complexity import count_flops, count_parameters
from reviewkd_mm.checks.image_size import Size, find_image_size, pad_to
from reviewkd_mm.checks.missing import (
    describe_weights,
    find_data_downloads,
    find_missing_data,
    find_missing_packages,
    is_remote,
)
from reviewkd_mm.checks.transfer_shapes import TransferShapes, find_shapes
from reviewkd_mm.cli.config import load_config
from reviewkd_mm.config import check_classes, is_distiller
from reviewkd_mm.config.built_parts import check_built_parts
from reviewkd_mm.config.files import CONFIG_FOLDERS
from reviewkd_mm.config.parts import PRETRAINED
from reviewkd_mm.errors import ConfigError, find_user_error
from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.models.distillers.model_source import read_source
from reviewkd_mm.models.distillers.own_weights import OwnWeights, find_own_weights
from reviewkd_mm.models.distillers.teacher import RANDOM

DEFAULT_SIZE = (224, 224)
DEFAULT_ORIGIN = 'the default: no pipeline says one'


@dataclass
class NetworkCheck:
    """A network of a config.

    Args:
        model (str): Its class.
        backbone (str | None): Class and depth of its backbone.
        config (str | None): The config path that it was given as.
        parameters (int): How many parameters it has.
        flops (int | None): Multiply-adds of inference on one image.
        flops_of (str): What they were counted of, or why not.
    """

    model: str
    backbone: str | None
    config: str | None
    parameters: int
    flops: int | None
    flops_of: str


@dataclass
class TransferCheck:
    """A transfer of a config.

    Args:
        connector (str | None): The connector's class.
        loss (str): The loss's class.
        loss_weight (float | None): The loss's weight, None if it has none.
        warmup_epochs (float): Epochs of warm-up.
        shapes (TransferShapes): Taps and shapes.
    """

    connector: str | None
    loss: str
    loss_weight: float | None
    warmup_epochs: float
    shapes: TransferShapes


@dataclass
class ConfigCheck:
    """What was found of a config.

    Args:
        config (str): Path of the file.
        error (str | None): Why it cannot be trained. Defaults to None.
        missing (list[str]): What has to be there before a training and is not.
        downloads (list[str]): What a training will download.
        image_size (tuple[int, int] | None): (height, width) of the image that was measured.
        image_size_from (str | None): What says that size.
        networks (dict[str, NetworkCheck]): ``student`` and ``teacher``, or ``model``.
        transfer_parameters (int): How many parameters connectors and losses have. Defaults to 0.
        transfers (dict[str, TransferCheck]): By name.
    """

    config: str
    error: str | None = None
    missing: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    image_size: Size | None = None
    image_size_from: str | None = None
    networks: dict[str, NetworkCheck] = field(default_factory=dict)
    transfer_parameters: int = 0
    transfers: dict[str, TransferCheck] = field(default_factory=dict)


def find_configs() -> list[str]:
    """Return the paths of the project's configs but those of ``_base_``."""
    folder = next((folder for folder in CONFIG_FOLDERS if folder.is_dir()), None)
    files = sorted(folder.rglob('*.py')) if folder else []
    return [str(file) for file in files if '_base_' not in file.relative_to(folder).parts]


def check_config(
    path: str,
    options: dict[str, Any] | None = None,
    image_size: Size | None = None,
    flops: bool = True,
) -> ConfigCheck:
    """Build the model of a config as a training would, and measure it.

    Nothing is downloaded: a teacher whose checkpoint is not there gets random weights, and
    the student is initialised without its pretrained ones.

    Args:
        path (str): Path of the config file.
        options (dict | None): Values by dotted key, as ``--cfg-options`` gives them. Defaults to
            None.
        image_size (tuple[int, int] | None): (height, width) of the image that is measured.
            Defaults to None, which means what the data pipelines say.
        flops (bool): Whether FLOPs are counted, for which each network is run once. Defaults to
            True.

    Returns:
        ConfigCheck: What was found; an error is kept in it.
    """
    check = ConfigCheck(path)
    try:
        with _quiet():
            _fill(check, load_config(path, options), image_size, flops)
    except Exception as error:  # Whatever a config's parts raise: the next config is checked.
        check.error = _describe(error)
    return check


def _fill(check: ConfigCheck, cfg: Config, image_size: Size | None, flops: bool) -> None:
    packages = find_missing_packages(cfg)
    check.missing += [*packages, *find_missing_data(cfg)]
    check.downloads += find_data_downloads(cfg)
    if 'model' not in cfg:
        raise ConfigError("this config has no 'model'")
    check_classes(cfg)
    if not packages:
        check_built_parts(cfg)
    # The Runner's own default.
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        model = _build_model(check, cfg)
        _set_image_size(check, cfg, model, image_size)
        if isinstance(model, Distiller):
            _measure_distiller(check, model, cfg.model, flops)
        else:
            check.networks['model'] = _measure(model, check.image_size, flops)


def _build_model(check: ConfigCheck, cfg: Config) -> nn.Module:
    """Build and initialise the model as the Runner does, but for what would be downloaded."""
    model_cfg = copy.deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    own = None
    if is_distiller(model_cfg):
        model_cfg.pop('transfers_compile', None)  # It takes minutes and changes no shape.
        source = read_source('teacher', model_cfg['teacher'])
        checkpoint = model_cfg.get('teacher_ckpt') or source.checkpoint
        own = None if checkpoint else find_own_weights(source.cfg)
        if not _has_teacher_weights(check, checkpoint, own):
            model_cfg.teacher_ckpt = RANDOM
    if cfg.get('load_from'):
        _note_weights(check, 'load_from', cfg.load_from)
    model = MODELS.build(model_cfg)
    if own is not None:
        own.check_whole(model.teacher)
    for key, weights in _take_pretrained(model).items():
        _note_weights(check, key, weights)
    if hasattr(model, 'init_weights'):
        model.init_weights()
    return model


def _has_teacher_weights(
    check: ConfigCheck, checkpoint: str | Path | None, own: OwnWeights | None
) -> bool:
    """Return whether the teacher can be built with the weights that its config names.

    Without a name it is for the distiller to refuse.
    """
    key = 'teacher_ckpt'
    if own is not None:
        key, checkpoint = f'teacher.{own.key}', own.checkpoint
        if checkpoint is None:  # Building it would fetch them.
            check.downloads.append(key)
            return False
    if checkpoint in (None, RANDOM):
        return True
    checkpoint = str(checkpoint)
    missing = _note_weights(check, key, checkpoint)
    return not missing and not is_remote(checkpoint)


def _note_weights(check: ConfigCheck, key: str, checkpoint: str) -> bool:
    """Note what a training will miss or download of a checkpoint; return whether it misses it."""
    missing, download = describe_weights(key, str(checkpoint))
    check.missing += [missing] if missing else []
    check.downloads += [download] if download else []
    return missing is not None


def _take_pretrained(model: nn.Module) -> dict[str, str]:
    """Take the pretrained weights out of the initialisation of a model's modules.

    Returns:
        dict[str, str]: Path, URL or name of the weights by the key that names them.
    """
    taken = {}
    for path, module in model.named_modules():
        given = getattr(module, 'init_cfg', None)
        if not given:
            continue
        cfgs = [given] if isinstance(given, Mapping) else list(given)
        pretrained = [cfg for cfg in cfgs if cfg['type'] in PRETRAINED]
        for cfg in pretrained:
            taken[f'{path}.init_cfg.checkpoint'.lstrip('.')] = cfg['checkpoint']
        if pretrained:
            module.init_cfg = [cfg for cfg in cfgs if cfg not in pretrained] or None
    return taken


def _set_image_size(
    check: ConfigCheck, cfg: Config, model: nn.Module, image_size: Size | None
) -> None:
    found = find_image_size(cfg)
    if image_size is not None:
        size, check.image_size_from = image_size, '--image-size'
    elif found is not None:
        size, check.image_size_from = found[0], f'the {found[1]} pipeline'
    else:
        size, check.image_size_from = DEFAULT_SIZE, DEFAULT_ORIGIN
    preprocessor = getattr(model, 'data_preprocessor', None)
    check.image_size = pad_to(size, getattr(preprocessor, 'pad_size_divisor', 1))


def _measure_distiller(
    check: ConfigCheck, distiller: Distiller, model_cfg: Mapping, flops: bool
) -> None:
    for role in ('student', 'teacher'):
        given = model_cfg[role]
        size = distiller.teacher_size(check.image_size) if role == 'teacher' else check.image_size
        network = _measure(getattr(distiller, role), size, flops)
        network.config = str(given) if isinstance(given, (str, Path)) else None
        check.networks[role] = network
    check.transfer_parameters = count_parameters(distiller.transfers)
    for name, shapes in find_shapes(distiller, check.image_size).items():
        transfer = distiller.transfers[name]
        check.transfers[name] = TransferCheck(
            connector=None if transfer.connector is None else type(transfer.connector).__name__,
            loss=type(transfer.loss).__name__,
            loss_weight=getattr(transfer.loss, 'loss_weight', None),
            warmup_epochs=transfer.warmup_epochs,
            shapes=shapes,
        )


def _measure(model: nn.Module, size: Size, flops: bool) -> NetworkCheck:
    backbone = getattr(model, 'backbone', None)
    depth = getattr(backbone, 'depth', None)
    name = None if backbone is None else type(backbone).__name__
    count, counted = count_flops(model, size) if flops else (None, 'not counted')
    return NetworkCheck(
        model=type(model).__name__,
        backbone=f'{name}, depth {depth}' if isinstance(depth, int) else name,
        config=None,
        parameters=count_parameters(model),
        flops=count,
        flops_of=counted,
    )


def _describe(error: Exception) -> str:
    """Name an error: a refusal speaks for itself, another says where it came from."""
    refusal = find_user_error(error)
    if refusal is not None:
        return str(refusal)
    text = f'{type(error).__name__}: {error}'
    frames = traceback.extract_tb(error.__traceback__)
    return f'{text} ({frames[-1].filename}:{frames[-1].lineno})' if frames else text


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MMEngine from logging every parameter that it initialises, and the zoos' warnings."""
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', module=r'mm(cv|det|engine|pretrain|seg)\.')
            yield
    finally:
        logging.disable(level)
