"""Random tensors and samples that the tests of the losses share."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmpretrain.structures import DataSample
from torch import Tensor


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw normal numbers that depend on nothing but the seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def samples(
    labels: Iterable[int | list[int]], indices: Iterable[int] | None = None
) -> list[DataSample]:
    """Make samples as MMPretrain's data sets give them."""
    made = [DataSample().set_gt_label(label) for label in labels]
    for sample, index in zip(made, indices or (), strict=False):
        sample.set_metainfo(dict(sample_idx=index))
    return made
