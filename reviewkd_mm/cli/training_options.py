"""What the options of a training change in its config."""

from __future__ import annotations

import difflib
import os
import warnings
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, DefaultScope
from mmengine.runner import Runner

from reviewkd_mm.config import is_distiller
from reviewkd_mm.config.built_parts import find_class
from reviewkd_mm.config.constructors import STUDENT_CONSTRUCTOR, is_for_student
from reviewkd_mm.errors import ConfigError, MissingFileError, config_key
from reviewkd_mm.files.whole_checkpoints import find_newest, is_whole

AMP_WRAPPER = 'reviewkd_mm.AmpOptimWrapper'
CHECK_TEACHER = 'reviewkd_mm.CheckTeacherHook'
VALIDATION = ('val_dataloader', 'val_evaluator', 'val_cfg')
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def set_work_dir(cfg: Config, config_path: str, work_dir: str | None = None) -> None:
    """Set where logs and checkpoints go: as asked, as configured, or by the config's name.

    Args:
        cfg (Config): The config, changed in place.
        config_path (str): Path of the config file.
        work_dir (str | None): The folder that was asked for. Defaults to None.

    Raises:
        ValueError: If nothing can be written there.
    """
    default = str(Path('work_dirs', Path(config_path).stem))
    cfg.work_dir = work_dir or cfg.get('work_dir') or default
    path = Path(cfg.work_dir).absolute()
    existing = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        kind = 'is read-only' if existing.is_dir() else 'is no folder'
        raise ConfigError(
            f"work_dir='{cfg.work_dir}': '{existing}' {kind}; expected a folder that can be "
            'written to: choose another with --work-dir'
        )


def check_teacher(cfg: Config, num_batches: int) -> None:
    """Evaluate the teacher on the validation data before the training, and its state after it.

    Args:
        cfg (Config): The config, changed in place.
        num_batches (int): Number of batches.

    Raises:
        ValueError: If the number is less than 1, the model no distiller, or there is no
            validation.
    """
    if num_batches < 1:
        raise ConfigError(f'--check-teacher={num_batches}: expected a number of batches >= 1')
    if not is_distiller(cfg.get('model') or {}):
        raise ConfigError(
            '--check-teacher: expected the config of a distiller; this model has no teacher'
        )
    missing = [key for key in VALIDATION if cfg.get(key) is None]
    if missing:
        raise ConfigError(
            f'--check-teacher: it evaluates on the validation data, but there is no '
            f'{", ".join(missing)}; give the config a validation, and do not use --no-validate'
        )
    others = [hook for hook in cfg.get('custom_hooks') or [] if not _is_type(hook, CHECK_TEACHER)]
    cfg.custom_hooks = [*others, dict(type=CHECK_TEACHER, num_batches=num_batches)]


def disable_validation(cfg: Config) -> None:
    """Train without evaluating.

    Args:
        cfg (Config): The config, changed in place.
    """
    cfg.val_cfg = None
    cfg.val_dataloader = None
    cfg.val_evaluator = None


def set_dataloaders(cfg: Config, pin_memory: bool = True, persistent_workers: bool = True) -> None:
    """Set what MMPretrain's configs leave to its tools, and what this machine cannot do.

    MMPretrain's tools give each dataloader ``default_collate``, pinned memory and persistent
    workers; MMDetection's configs name what they need. Memory is pinned for an accelerator alone,
    and workers persist only where there are any.

    Args:
        cfg (Config): The config, changed in place.
        pin_memory (bool): Whether memory may be pinned. Defaults to True.
        persistent_workers (bool): Whether workers may persist. Defaults to True.
    """
    pin_memory = pin_memory and _has_accelerator()
    for name in DATALOADERS:
        dataloader = cfg.get(name)
        if not isinstance(dataloader, dict):
            continue
        if cfg.get('default_scope') == 'mmpretrain':
            dataloader.setdefault('collate_fn', dict(type='default_collate'))
            dataloader.setdefault('pin_memory', True)
            dataloader.setdefault('persistent_workers', True)
        if not pin_memory and 'pin_memory' in dataloader:
            dataloader['pin_memory'] = False
        if not (persistent_workers and dataloader.get('num_workers', 0)):
            dataloader.pop('persistent_workers', None)


def enable_amp(cfg: Config) -> None:
    """Train in mixed precision.

    Args:
        cfg (Config): The config, changed in place.

    Raises:
        ValueError: If ``optim_wrapper`` is no OptimWrapper or AmpOptimWrapper of one optimizer.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    kind = wrapper.get('type', 'OptimWrapper')
    name = kind if isinstance(kind, str) else kind.__name__
    if 'optimizer' not in wrapper:
        raise ConfigError(
            f'--amp: optim_wrapper has the keys {[*wrapper]}: expected one with an optimizer, '
            'not several wrappers by name'
        )
    if name.rpartition('.')[2] not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ConfigError(
            f'--amp: optim_wrapper.type={name!r}: expected OptimWrapper or AmpOptimWrapper, which '
            f'{AMP_WRAPPER} replaces'
        )
    wrapper['type'] = AMP_WRAPPER
    wrapper.setdefault('loss_scale', 'dynamic')


def adapt_optim_wrapper(cfg: Config) -> None:
    """Let an ``optim_wrapper`` that was written for a network alone, or for a GPU, work here.

    In a distiller's config a constructor gets the student alone, whose names it knows. Where there
    is no accelerator, which MMEngine's AmpOptimWrapper asks for, that of this package replaces it.

    Args:
        cfg (Config): The config, changed in place.
    """
    wrapper = cfg.get('optim_wrapper')
    if not isinstance(wrapper, dict):
        return
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        constructor = wrapper.get('constructor')
        if is_distiller(cfg.get('model') or {}) and is_for_student(constructor):
            wrapper.update(constructor=STUDENT_CONSTRUCTOR, student_constructor=constructor)
        kind = find_class(wrapper.get('type'), OPTIM_WRAPPERS)
    if kind is AmpOptimWrapper and not _has_accelerator():
        wrapper['type'] = AMP_WRAPPER
        print_log(
            f'optim_wrapper.type={AMP_WRAPPER!r}: the AmpOptimWrapper of MMEngine needs a GPU',
            logger='current',
        )


def build_optim_wrapper(runner: Runner) -> None:
    """Build the optimizer of a Runner, which would build it later and not name the config key.

    Args:
        runner (Runner): The runner; one of another class, whose strategy builds the optimizer, is
            left as it is.

    Raises:
        ValueError: If the optimizer cannot be built, with the key ``optim_wrapper``.
    """
    if isinstance(runner, Runner):
        with config_key('optim_wrapper'):
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate with the batch size of this run.

    Args:
        cfg (Config): The config, changed in place.

    Raises:
        ValueError: If the config does not say which batch size its learning rate is for.
    """
    base_batch_size = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not base_batch_size:
        raise ConfigError(
            f'--auto-scale-lr: auto_scale_lr.base_batch_size={base_batch_size!r}: expected the '
            'batch size, over all processes, that the learning rate of this config was chosen for'
        )
    cfg.auto_scale_lr.enable = True


def set_resume(cfg: Config, resume: str | None) -> None:
    """Continue a training from a checkpoint.

    Args:
        cfg (Config): The config, changed in place; its ``work_dir`` is set.
        resume (str | None): ``'auto'``, the last whole checkpoint in ``work_dir`` or, where there
            is none at all, a start as configured, ``load_from`` included; or the path of a
            checkpoint; or None to do as the config says.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is damaged, or every checkpoint in ``work_dir`` is.
    """
    if resume is None and cfg.get('resume') and not cfg.get('load_from'):
        resume = 'auto'
    if resume is None:
        return
    found = _find_whole(cfg) if resume == 'auto' else _check_whole(resume)
    if found is not None:
        cfg.resume = True
        cfg.load_from = found


def _find_whole(cfg: Config) -> str | None:
    """Return the newest whole checkpoint of a training, None if it has saved none."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    found, damaged = find_newest(cfg.work_dir, hook.get('filename_tmpl'))
    names = ', '.join(f"'{checkpoint}'" for checkpoint in damaged)
    if found is None and damaged:
        raise ConfigError(
            f"--resume: work_dir='{cfg.work_dir}': expected a whole checkpoint, but {names} "
            'cannot be read; name another with --resume CHECKPOINT, or start anew without --resume'
        )
    if damaged:
        warnings.warn(
            f"--resume: {names} cannot be read; resuming from '{found}', the newest whole "
            'checkpoint',
            stacklevel=3,
        )
    return found


def _check_whole(checkpoint: str) -> str:
    """Return the path of a checkpoint if there is one that can be read."""
    if '://' in checkpoint or is_whole(checkpoint):
        return checkpoint
    path = Path(checkpoint)
    there = [file.name for file in path.parent.glob('*.pth') if is_whole(file)]
    near = difflib.get_close_matches(path.name, there, n=3, cutoff=0) or ['no other checkpoint']
    beside = f'{path.parent} holds {", ".join(near)}'
    if path.is_file():
        raise ConfigError(
            f'--resume={checkpoint!r}: expected a whole checkpoint, but this one is damaged; '
            f'{beside}'
        )
    raise MissingFileError(
        f'--resume={checkpoint!r}: expected a checkpoint, but there is no such file; {beside}'
    )


def set_launcher(cfg: Config, launcher: str) -> None:
    """Set how the processes were started; on machines without an accelerator they use gloo.

    Args:
        cfg (Config): The config, changed in place.
        launcher (str): ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
    """
    cfg.launcher = launcher
    if launcher != 'pytorch' or get_device() != 'cpu':
        return
    # MMEngine selects a CUDA device whatever the backend, unless the group is there already, and
    # hands its number to DistributedDataParallel, unless the config says otherwise.
    torch.distributed.init_process_group('gloo')
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}


def _has_accelerator() -> bool:
    return get_device() not in ('cpu', 'mps')


def _is_type(hook: object, name: str) -> bool:
    return isinstance(hook, dict) and hook.get('type') == name
