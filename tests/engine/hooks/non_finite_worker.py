"""Two processes of which one gets a loss that is not finite; started by tests/stress."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.runner import Runner
from torch import nn

from tests.models.distillers.helpers import NO_VALIDATION, distiller_cfg, runner_cfg

BAD_RANK, BAD_ITERATION, ITERATIONS = 1, 2, 3


def poison(module: nn.Module) -> None:
    """Let the output of one forward be NaN."""
    count = 0

    def spoil(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor | None:
        nonlocal count
        count += 1
        return output * math.nan if count == BAD_ITERATION else None

    module.register_forward_hook(spoil)


def train(rank: int, folder: Path, skip: bool) -> dict:
    """Train, one rank with a bad feature, and return what there is to compare."""
    hook = dict(type='reviewkd_mm.NonFiniteLossHook', skip=skip)
    options = dict(
        NO_VALIDATION,
        launcher='pytorch',
        train_cfg=dict(by_epoch=False, max_iters=ITERATIONS),
        log_processor=dict(by_epoch=False),
        default_hooks=dict(checkpoint=None),
        custom_hooks=[hook],
        model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None
        ),
    )
    runner = Runner.from_cfg(runner_cfg(distiller_cfg(), folder / f'skip_{skip}', **options))
    model = runner.model.module
    if rank == BAD_RANK:
        poison(model.student.backbone.layer2[-1])
    error = ''
    try:
        runner.train()
    except RuntimeError as raised:
        error = str(raised)
    scalars = runner.message_hub.log_scalars
    skipped = int(scalars['train/skipped_steps'].current()) if skip else None
    weights = {name: p.detach() for name, p in model.named_parameters()}
    return dict(error=error, iterations=runner.iter, skipped=skipped, weights=weights)


def run(rank: int, folder: Path) -> None:
    """Train once so that it stops and once so that it skips."""
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)  # as a launcher does
    dist.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    saved = {name: train(rank, folder, name == 'skip') for name in ('stop', 'skip')}
    torch.save(saved, folder / f'rank{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    # Forked, so that the packages are imported once.
    mp.start_processes(run, (Path(sys.argv[1]),), nprocs=2, start_method='fork')
