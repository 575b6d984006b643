"""Two processes that train a distiller in parallel; started by test_distiller_parallel."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook as send

from reviewkd_mm.models.distillers import Distiller
from tests.models.distillers.helpers import (
    batch,
    build_distiller,
    classifier,
    logits,
    review,
    total,
)

ACCUMULATIVE_COUNTS = (1, 2)
GN = dict(type='GN', num_groups=2)


def group_norm_distiller() -> Distiller:
    """Build a distiller in float64 whose losses are means over images: it has no BatchNorm."""
    backbone = dict(type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4, norm_cfg=GN)
    student = classifier((4, 4, 4, 32), backbone=backbone)
    connector = dict(type='ReviewConnector', norm_cfg=GN)
    transfers = dict(review=review(connector=connector), kd=logits())
    return build_distiller(student=student, transfers=transfers).double()


def take_two_steps(rank: int) -> dict:
    """Train on a batch of this rank's own and return what there is to compare."""
    torch.manual_seed(rank)  # Rank 0's weights are sent to rank 1, the teacher's are not.
    transfers = dict(review=review(warmup_epochs=3), kd=logits())
    distiller = build_distiller(transfers=transfers)
    model = MMDistributedDataParallel(distiller, broadcast_buffers=False)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    inputs, samples = batch(seed=rank)
    for _ in range(2):
        optimizer.zero_grad()
        with optimizer.optim_context(model):
            losses = model(inputs, samples, mode='loss')
        sum(losses.values()).backward()
        optimizer.optimizer.step()
    return dict(
        gradients={name: p.grad for name, p in distiller.named_parameters()},
        weights=dict(distiller.named_parameters()),
        teacher=distiller.teacher.state_dict(),
        names=list(dict(model.named_parameters())) + list(dict(model.named_buffers())),
        losses={name: loss.detach() for name, loss in losses.items()},
    )


def accumulate(rank: int, counts: int) -> dict:
    """Update once after some batches of this rank's own, and note what is sent after each."""
    torch.manual_seed(rank)
    distiller = group_norm_distiller()
    model = MMDistributedDataParallel(distiller, broadcast_buffers=False)
    buckets: list[int] = []

    # A lambda, since DistributedDataParallel refuses annotations that are strings.
    model.register_comm_hook(
        buckets, lambda state, bucket: state.append(bucket.buffer().numel()) or send(None, bucket)
    )
    # A rate of 1: the weights move by minus the gradient.
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer = OptimWrapper(sgd, accumulative_counts=counts)
    optimizer.initialize_count_status(model, 0, counts)
    start, losses, sent = copy.deepcopy(distiller.state_dict()), [], []
    for step in range(counts):
        inputs, samples = batch(seed=rank * counts + step)
        with optimizer.optim_context(model):
            losses.append(model(inputs.double(), samples, mode='loss'))
            optimizer.update_params(total(losses[-1]))
        sent.append(sum(buckets))
    return dict(
        start=start,
        gradients={n: start[n] - p.detach() for n, p in distiller.named_parameters()},
        losses=[{name: loss.detach() for name, loss in step.items()} for step in losses],
        sent=sent,
    )


def synchronise_batch_norm() -> dict:
    """Train and predict with SyncBN connectors; return the error and the loss in eval mode."""
    connector = dict(type='ReviewConnector', norm_cfg=dict(type='SyncBN'))
    distiller = build_distiller(transfers=dict(review=review(connector=connector)))
    try:
        distiller(*batch(), mode='loss')
    except ValueError as raised:
        error = str(raised)
    distiller.eval()
    with torch.no_grad():
        loss = distiller(*batch(), mode='loss')['loss_review']
    return dict(error=error, loss=loss)


def run(rank: int, folder: Path) -> None:
    """Do all of it in one of the two processes and save what it returns."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
    saved = take_two_steps(rank)
    saved['accumulated'] = {counts: accumulate(rank, counts) for counts in ACCUMULATIVE_COUNTS}
    saved['sync_bn'] = synchronise_batch_norm()
    torch.save(saved, folder / f'rank{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    # Forked, so that the packages are imported once.
    mp.start_processes(run, (Path(sys.argv[1]),), nprocs=2, start_method='fork')
