"""The Runner's option ``compile``, which compiles a whole training step around the distiller."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper

from tests.integration.detection import raw_batch, retinanet
from tests.models.distillers.helpers import (
    NO_VALIDATION,
    build_distiller,
    distiller_cfg,
    logits,
    review,
    state_of,
    train,
)
from tests.numbers import assert_close64

pytestmark = [pytest.mark.stress, pytest.mark.usefixtures('in_float64')]
# Traced, and run without generated code, for which a machine may lack a compiler.
COMPILE = dict(backend='eager')


def floating(state: dict) -> dict:
    return {name: value for name, value in state.items() if value.is_floating_point()}


def test_a_classifier_ends_with_the_weights_of_a_plain_run(tmp_path: Path):
    model = distiller_cfg(transfers=dict(review=review(), kd=logits()))
    runners = [
        train(model, tmp_path / name, compile=option, **NO_VALIDATION)
        for name, option in (('plain', False), ('compiled', COMPILE))
    ]

    ends = [state_of(runner.model) for runner in runners]
    assert_close64(*map(floating, ends))


def test_a_detector_ends_with_the_weights_of_a_plain_step():
    results = []
    for option in (None, COMPILE):
        torch.manual_seed(0)
        distiller = build_distiller(
            student=retinanet(),
            teacher=retinanet(width=6, channels=12),
            transfers=dict(review=review(student='neck', teacher='neck')),
        )
        step = distiller.train_step  # What MMEngine's Runner compiles.
        if option is not None:
            step = torch.compile(step, **option)
        optimizer = OptimWrapper(torch.optim.SGD(distiller.parameters(), lr=0.01))
        losses = [step(raw_batch(), optimizer) for _ in range(2)]
        results.append((losses, floating(state_of(distiller))))

    assert results[1][0][0]['loss_review'] > 0
    assert_close64(*results)
