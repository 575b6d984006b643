"""Choose the predictor of the package that a student is from."""

from __future__ import annotations

from importlib import import_module

import torch
from mmengine.config import Config
from mmengine.device import get_device

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.export.student import student_config
from reviewkd_mm.inference.predictor import Predictor
from reviewkd_mm.models.distillers.model_source import student_source
from reviewkd_mm.registry import SCOPE

# Modules by registry scope, since each imports a package that the other students do not need.
PREDICTORS = {
    'mmpretrain': ('classifier', 'ClassifierPredictor'),
    'mmdet': ('detector', 'DetectorPredictor'),
    'mmseg': ('segmenter', 'SegmenterPredictor'),
}


def build_predictor(cfg: Config, checkpoint: str, device: str | None = None) -> Predictor:
    """Build the student of a config, with the weights of a checkpoint, for prediction.

    Neither the teacher nor any of its files is touched.

    Args:
        cfg (Config): A training config, of a distiller or of an ordinary model.
        checkpoint (str): Path or URL of a checkpoint of that training, or of an exported student.
        device (str, optional): Where the model runs, such as ``'cpu'`` or ``'cuda:0'``. Defaults
            to None, which means MMEngine's choice.

    Returns:
        Predictor: The predictor.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        RuntimeError: If the checkpoint does not fit the student.
        ValueError: If the config is of no supported model, lacks a test pipeline, the student's
            package is not installed, or the device cannot be used.
    """
    if 'model' not in cfg:
        raise ConfigError(f'{cfg.filename}: this config file has no model')
    stock, scope = student_config(cfg), _scope(cfg)
    if scope not in PREDICTORS:
        raise ConfigError(
            f"model.type='{stock.model.get('type')}' is of {scope or 'no package'}: expected a "
            f'model of {", ".join(PREDICTORS)}'
        )
    dataset = (stock.get('test_dataloader') or {}).get('dataset') or {}
    if 'pipeline' not in dataset:
        raise ConfigError(
            f'{cfg.filename}: test_dataloader.dataset.pipeline is missing, which says how an '
            'image is prepared for the model'
        )
    device = device or get_device()
    _check_device(device)
    module, name = PREDICTORS[scope]
    return getattr(import_module(f'{__package__}.{module}'), name)(stock, checkpoint, device)


def _scope(cfg: Config) -> str | None:
    source = student_source(cfg)
    # What is inherited from our own configs is stamped with our scope, which has no whole models.
    return source.scope if source.build_scope == SCOPE else source.build_scope


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch answers with either.
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"device='{device}' cannot be used here ({reason}); expected one such as "
            f"'{get_device()}'"
        ) from error
