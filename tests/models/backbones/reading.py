"""Load a file's tensors into a backbone and read its taps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reviewkd_mm.models.recorders.recorder import Recorder
from tests.models.backbones.textbook import random_weights

CLASSIFIERS = ('classifier.', 'linear.', 'fc.')


def images(size: int = 32, width: int | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, size, width or size, generator=generator, dtype=torch.float64)


def load_file(backbone: nn.Module, arch: str) -> dict[str, Tensor]:
    """Load random tensors, all but the classifier's, under the names of a file; return them all.

    The backbone is in double precision and eval mode then.
    """
    weights = random_weights(arch, dtype=torch.float64)
    learned = {n: t for n, t in weights.items() if not n.startswith(CLASSIFIERS)}
    backbone.double().eval().load_state_dict(learned, strict=True)
    return weights


def tapped(model: nn.Module, taps: Sequence[str | dict], x: Tensor) -> list[Tensor]:
    """Run the model and return what a recorder reads at the taps."""
    recorder = Recorder(taps)
    with recorder.recording(model):
        model(x)
    features = recorder.features()
    recorder.close()
    return features


def inputs_of(*paths: str) -> list[dict[str, str]]:
    return [{'type': 'ModuleInputs', 'source': path} for path in paths]


def parameters_with_head(backbone: nn.Module, channels: int, classes: int = 100) -> int:
    return sum(p.numel() for p in backbone.parameters()) + (channels + 1) * classes


def frozen_names(backbone: nn.Module, depth: int = 1) -> set[str]:
    """Names of the frozen modules, each cut to its first parts."""
    frozen = (name for name, p in backbone.named_parameters() if not p.requires_grad)
    return {'.'.join(name.split('.')[:depth]) for name in frozen}
