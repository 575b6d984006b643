"""The memory format channels_last, and the students that do without it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reviewkd_mm.models.distillers.channels_last import set_memory_format, thin_strided_convs
from tests.models.distillers.helpers import batch, build_distiller, classifier, total


def conv(*args: int, **kwargs: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(*args, **kwargs))


@pytest.mark.parametrize(
    ('model', 'names'),
    [
        (conv(15, 32, 1, stride=2), ['1']),
        (conv(15, 32, 1, stride=(1, 2)), ['1']),
        (conv(32, 32, 1, stride=2, groups=4), ['1']),
        (conv(16, 32, 1, stride=2), []),
        (conv(4, 32, 1), []),
        (conv(3, 32, 3, stride=2), []),
    ],
)
def test_thin_strided_convs(model, names):
    assert thin_strided_convs(model) == names


def test_weights_of_four_dimensions_are_laid_out():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3), nn.Linear(4, 4))

    set_memory_format(model, torch.channels_last)

    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight.is_contiguous()


def test_a_thin_student_does_without_channels_last_and_says_so(monkeypatch):
    said = []
    monkeypatch.setattr(
        'reviewkd_mm.models.distillers.distiller.print_log', lambda text, **_: said.append(text)
    )

    distiller = build_distiller(student=classifier((4, 4, 8, 16)), channels_last=True)

    assert not distiller.channels_last
    assert said == [
        "channels_last is off: the student's 'backbone.layer2.0.downsample.0' is too thin for it "
        'on a CPU'
    ]
    assert all(p.is_contiguous() for p in distiller.parameters())


def test_a_thin_student_trains():
    """In channels_last the process crashed within a few steps."""
    distiller = build_distiller(student=classifier((4, 4, 4, 4)))

    for _ in range(30):
        total(distiller.loss(*batch(8))).backward()

    assert all(p.grad.isfinite().all() for p in distiller.parameters())
