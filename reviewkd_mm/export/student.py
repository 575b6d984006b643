"""Turn a distiller's config and checkpoint into those of an ordinary model."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from reviewkd_mm.config import is_distiller
from reviewkd_mm.errors import ConfigError
from reviewkd_mm.files.atomic_files import write_bytes, write_text
from reviewkd_mm.models.distillers.checkpoint import load_weights, model_weights, read_checkpoint
from reviewkd_mm.models.distillers.model_source import student_source
from reviewkd_mm.registry import MODELS, SCOPE
from reviewkd_mm.utils import forked_rng

# The registry scope of MMPretrain's models, which need none of MMCV's compiled ops.
NO_OPS_SCOPE = 'mmpretrain'
OPS = f'{SCOPE}.mmcv_ops'
# A setting with one of these keys is a transfer's; these others are a distillation's, or tell of
# one training.
TRANSFER_KEYS = {'student', 'teacher', 'connector'}
NOT_STOCK = (
    *('student', 'teacher', 'warmup_epochs', 'training_hooks', 'distillation_hooks'),
    *('work_dir', 'load_from', 'resume'),
)
# Classes of ours by the stock class that takes the same arguments.
STOCK_TYPES = {
    f'{SCOPE}.AmpOptimWrapper': 'AmpOptimWrapper',
    f'{SCOPE}.AtomicCheckpointHook': 'CheckpointHook',
}
# Of a checkpoint's meta what describes the weights; the training config names the teacher.
KEPT_META = ('dataset_meta', 'epoch', 'iter', 'mmengine_version', 'time')


def student_config(cfg: Config) -> Config:
    """Return the config of the student alone, as one would write it for MMPretrain or MMDetection.

    Neither the teacher nor any of its files is touched.

    Args:
        cfg (Config): A training config, of a distiller or of an ordinary model.

    Returns:
        Config: A copy whose model is the student, without what only distillation needs.
    """
    source = student_source(cfg)
    stock = copy.deepcopy(cfg._cfg_dict.to_dict())
    for key, value in list(stock.items()):
        is_transfer = isinstance(value, Mapping) and TRANSFER_KEYS & set(value)
        if is_transfer or key in NOT_STOCK:
            del stock[key]
    stock['model'] = source.cfg
    for key in ('custom_hooks', 'default_hooks', 'optim_wrapper'):
        if key in stock:
            stock[key] = _as_stock(stock[key])
    scope = source.build_scope
    if scope is not None:
        stock['default_scope'] = stock.get('default_scope') or scope
        if scope != stock['default_scope']:
            stock['model'].setdefault('_scope_', scope)
    if {scope, stock.get('default_scope')} != {NO_OPS_SCOPE}:
        stock['custom_imports'] = _with_ops(stock.get('custom_imports'))
    return Config(stock)


def _as_stock(part: Any) -> Any:
    """Name the stock class in place of ours, and leave out what of ours has none."""
    if isinstance(part, Mapping):
        return {key: _as_stock(value) for key, value in part.items() if not _is_ours(value)}
    if isinstance(part, list):
        return [_as_stock(value) for value in part if not _is_ours(value)]
    return STOCK_TYPES.get(part, part) if isinstance(part, str) else part


def _is_ours(part: Any) -> bool:
    """Tell a hook that has no stock class, and the scope that MMEngine notes beside a type."""
    kind = part.get('type') if isinstance(part, Mapping) else part
    return kind == SCOPE or (str(kind).startswith(f'{SCOPE}.') and kind not in STOCK_TYPES)


def _with_ops(custom_imports: dict | None) -> dict:
    """Add our stand-in for MMCV's compiled ops to the modules that a config imports."""
    custom_imports = dict(custom_imports or {})
    imports = custom_imports.get('imports') or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    if OPS not in imports:
        imports.insert(0, OPS)
    custom_imports.setdefault('allow_failed_imports', False)
    return dict(custom_imports, imports=imports)


def export_student(cfg: Config, checkpoint: str | Path, out: str | Path) -> tuple[Path, Path]:
    """Write the student of a distiller as an ordinary checkpoint, and its config beside it.

    The student is built from that config and loaded strictly before anything is written.

    Args:
        cfg (Config): The training config.
        checkpoint (str | Path): A checkpoint of its training.
        out (str | Path): Where the checkpoint goes; the config goes to the same name with the
            suffix ``.py``.

    Returns:
        tuple[Path, Path]: The two files.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        RuntimeError: If the checkpoint does not fit the student, or a file cannot be written.
    """
    stock, out = student_config(cfg), Path(out)
    build_student(stock, str(checkpoint))
    saved = read_checkpoint(str(checkpoint), 'checkpoint')
    meta = {key: saved['meta'][key] for key in KEPT_META if key in saved.get('meta', {})}
    content = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=model_weights(saved)), content)
    write_bytes(out, content.getvalue())
    config_file = out.with_suffix('.py')
    write_text(config_file, stock.pretty_text)
    return out, config_file


def build_student(stock: Config, checkpoint: str | None = None) -> nn.Module:
    """Build the model of a config and load a checkpoint strictly.

    The random state is left as it was, so that an export does not disturb a running training.

    Args:
        stock (Config): A config as :func:`student_config` returns it.
        checkpoint (str, optional): A checkpoint of the model or of its distiller. Defaults to
            None.

    Returns:
        nn.Module: The model.

    Raises:
        ValueError: If the config is a distiller's.
        RuntimeError: If the checkpoint does not fit.
    """
    if is_distiller(stock.model):
        raise ConfigError('expected the config of an ordinary model, got a distiller')
    # As MMEngine's Runner would, so that what is exported is known to work there.
    scope = MODELS.root.switch_scope_and_registry(stock.get('default_scope'))
    with forked_rng(0), scope as registry:
        model = registry.build(copy.deepcopy(stock.model))
    if checkpoint is not None:
        load_weights(model, checkpoint, 'checkpoint')
    return model
