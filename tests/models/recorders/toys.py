"""Small models to read features from."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block whose last ReLU may overwrite its input."""

    def __init__(self, channels: int = 4, inplace: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.bn(self.conv(x)))


class Backbone(nn.Module):
    """Two stages; returns both outputs, as a backbone of MMPretrain does."""

    def __init__(self, depth: int = 2, inplace: bool = False) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(*(Block(inplace=inplace) for _ in range(depth)))
        self.layer2 = nn.Sequential(*(Block(inplace=inplace) for _ in range(depth)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shallow = self.layer1(x)
        return shallow, self.layer2(shallow)


class Classifier(nn.Module):
    """Backbone, pooling and a linear head."""

    def __init__(self, depth: int = 2, inplace: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(depth, inplace)
        self.neck = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.neck(self.backbone(x)[-1]))


class Twice(nn.Module):
    """Call one module several times."""

    def __init__(self, module: nn.Module, calls: int = 2) -> None:
        super().__init__()
        self.module = module
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.calls):
            x = self.module(x)
        return x


def images(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, 4, 6, 6, generator=torch.Generator().manual_seed(seed))
