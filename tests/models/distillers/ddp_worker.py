"""Two processes that train a distiller in parallel; started by test_distiller_parallel."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from tests.models.distillers.helpers import batch, build_distiller, logits, review


def run(rank: int, folder: Path) -> None:
    """Train one step on a batch of this rank's own and save what there is to compare."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=2)
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
    saved = dict(
        gradients={name: p.grad for name, p in distiller.named_parameters()},
        weights=dict(distiller.named_parameters()),
        teacher=distiller.teacher.state_dict(),
        names=list(dict(model.named_parameters())) + list(dict(model.named_buffers())),
        losses={name: loss.detach() for name, loss in losses.items()},
    )
    torch.save(saved, folder / f'rank{rank}.pth')
    dist.destroy_process_group()


if __name__ == '__main__':
    # Forked, so that the packages are imported once.
    mp.start_processes(run, (Path(sys.argv[1]),), nprocs=2, start_method='fork')
