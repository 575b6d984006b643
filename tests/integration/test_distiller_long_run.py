"""What a training leaves behind from step to step, and for another distiller: nothing."""

from __future__ import annotations

import copy

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor

from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.registry import MODELS
from tests.integration.growth import GrowthHook
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    assert_same_state,
    batch,
    distiller_cfg,
    logits,
    review,
    state_of,
    train,
)


def model() -> dict:
    return distiller_cfg(transfers=dict(review=review(warmup_epochs=3), kd=logits()))


def test_steps_leave_nothing_behind(tmp_path):
    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='reviewkd_mm.TinyImages', length=80),
    )
    runner = train(
        model(),
        tmp_path,
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=3),
        custom_hooks=[dict(type='EMAHook'), dict(type='GrowthHook', interval=20)],
        **NO_VALIDATION,
    )

    # The first checkpoint, after the first count, wraps every storage in an object that stays.
    _, early, late = GrowthHook.of(runner).alive
    assert (early.iteration, late.iteration) == (40, 60)
    assert early.values == late.values == 0
    assert early.hooks == late.hooks > 0
    assert early.tensors == late.tensors
    # One object a step would be 20.
    assert late.objects - early.objects < 10


class Training:
    """A distiller and its optimizer, one step at a time."""

    def __init__(self, cfg: dict, seed: int) -> None:
        torch.manual_seed(seed)
        self.distiller: Distiller = MODELS.build(cfg)
        self.distiller.init_weights()
        parameters = self.distiller.parameters()
        self.optimizer = OptimWrapper(torch.optim.SGD(parameters, lr=0.05, momentum=0.9))
        self.losses: list[dict[str, Tensor]] = []

    def step(self, seed: int) -> None:
        inputs, samples = batch(seed=seed)
        data = dict(inputs=list(inputs), data_samples=samples)
        self.losses.append(self.distiller.train_step(data, self.optimizer))

    def tensors(self) -> set[int]:
        models = (self.distiller, self.distiller.teacher)
        found = (t for m in models for t in (*m.parameters(), *m.buffers()))
        return {tensor.data_ptr() for tensor in found}


def test_distillers_that_take_turns_train_as_each_alone():
    cfg, seeds = model(), (1, 2)
    untouched = copy.deepcopy(cfg)
    alone = []
    for seed in seeds:
        alone.append(Training(cfg, seed))
        for step in range(3):
            alone[-1].step(seed=10 * seed + step)

    turns = [Training(cfg, seed) for seed in seeds]
    for step in range(3):
        for seed, training in zip(seeds, turns, strict=True):
            training.step(seed=10 * seed + step)

    assert cfg == untouched
    assert not turns[0].tensors() & turns[1].tensors()
    for one, other in zip(turns, alone, strict=True):
        assert_same_state(state_of(one.distiller), state_of(other.distiller))
        assert one.losses == other.losses
