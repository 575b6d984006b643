"""What the options of a training change in its config."""

from __future__ import annotations

import difflib
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import find_latest_checkpoint

from reviewkd_mm.config import is_distiller

AMP_WRAPPER = 'reviewkd_mm.AmpOptimWrapper'
PROGRESS_BAR = 'reviewkd_mm.ProgressBarHook'
DISTILLATION_HOOKS = ('reviewkd_mm.EpochInfoHook', 'reviewkd_mm.ExportStudentHook')
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def set_work_dir(cfg: Config, config_path: str, work_dir: str | None = None) -> None:
    """Set where logs and checkpoints go: as asked, as configured, or by the config's name.

    Args:
        cfg (Config): The config, changed in place.
        config_path (str): Path of the config file.
        work_dir (str | None): The folder that was asked for. Defaults to None.
    """
    default = str(Path('work_dirs', Path(config_path).stem))
    cfg.work_dir = work_dir or cfg.get('work_dir') or default


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
    pin_memory = pin_memory and get_device() not in ('cpu', 'mps')
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
        raise ValueError(
            f'--amp: optim_wrapper has the keys {[*wrapper]}: expected one with an optimizer, '
            'not several wrappers by name'
        )
    if name.rpartition('.')[2] not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(
            f'--amp: optim_wrapper.type={name!r}: expected OptimWrapper or AmpOptimWrapper, which '
            f'{AMP_WRAPPER} replaces'
        )
    wrapper['type'] = AMP_WRAPPER
    wrapper.setdefault('loss_scale', 'dynamic')


def enable_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate with the batch size of this run.

    Args:
        cfg (Config): The config, changed in place.

    Raises:
        ValueError: If the config does not say which batch size its learning rate is for.
    """
    base_batch_size = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not base_batch_size:
        raise ValueError(
            f'--auto-scale-lr: auto_scale_lr.base_batch_size={base_batch_size!r}: expected the '
            'batch size, over all processes, that the learning rate of this config was chosen for'
        )
    cfg.auto_scale_lr.enable = True


def set_resume(cfg: Config, resume: str | None) -> None:
    """Continue a training from a checkpoint.

    Args:
        cfg (Config): The config, changed in place; its ``work_dir`` is set.
        resume (str | None): ``'auto'``, the last checkpoint in ``work_dir`` or, where there is
            none, a start as configured, ``load_from`` included; or the path of a checkpoint; or
            None to leave the config as it is.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
    """
    if resume is None:
        return
    if resume == 'auto':
        if find_latest_checkpoint(cfg.work_dir) is not None:
            cfg.resume = True
            cfg.load_from = None
        return
    path = Path(resume)
    if '://' not in resume and not path.is_file():
        there = [file.name for file in path.parent.glob('*.pth')]
        near = difflib.get_close_matches(path.name, there, n=3, cutoff=0) or ['no checkpoint']
        raise FileNotFoundError(
            f'--resume={resume!r}: expected a checkpoint, but there is no such file; '
            f'{path.parent} holds {", ".join(near)}'
        )
    cfg.resume = True
    cfg.load_from = resume


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


def add_hooks(cfg: Config) -> None:
    """Add the progress bar to the hooks and, for a distiller, what a distillation needs.

    A config of one's own, made from MMPretrain's or MMDetection's, gets them so without naming
    them. A hook that the config has stays as it is.

    Args:
        cfg (Config): The config, changed in place.
    """
    custom = list(cfg.get('custom_hooks') or [])
    default = (cfg.get('default_hooks') or {}).values()
    names = [hook['type'] for hook in (*custom, *default) if isinstance(hook, dict)]
    wanted = [PROGRESS_BAR]
    if is_distiller(cfg.get('model') or {}):
        wanted += DISTILLATION_HOOKS
    cfg.custom_hooks = [*custom, *(dict(type=name) for name in wanted if name not in names)]
