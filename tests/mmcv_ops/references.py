"""The ops written plainly from their definitions, and inputs for them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def reference_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> list[int]:
    """Greedy suppression, box by box."""
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(reference_iou(boxes[i], boxes[j], offset) <= iou_threshold for j in kept):
            kept.append(i)
    return kept


def reference_iou(a: Tensor, b: Tensor, offset: int) -> float:
    def area(box: list[float]) -> float:
        return max(box[2] - box[0] + offset, 0) * max(box[3] - box[1] + offset, 0)

    a, b = a.tolist(), b.tolist()
    overlap = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return overlap / (area(a) + area(b) - overlap)


def random_boxes(number: int, size: float = 20.0) -> Tensor:
    corners = torch.rand(number, 2) * size
    return torch.cat([corners, corners + 1 + torch.rand(number, 2) * size], dim=1)


def reference_roi_align(
    features: Tensor,
    rois: Tensor,
    size: tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """RoIAlign from its definition: the mean, over a bin's samples, of bilinear interpolation."""
    shift = 0.5 if aligned else 0.0
    outputs = []
    for index, *corners in rois.tolist():
        x1, y1, x2, y2 = (corner * scale - shift for corner in corners)
        extents = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1.0), max(x2 - x1, 1.0))
        # The samples of a bin form a grid, so its mean is a product of one matrix per axis.
        rows, columns = (
            bin_weights(start, extent, bins, sampling_ratio, pixels)
            for start, extent, bins, pixels in zip(
                (y1, x1), extents, size, features.shape[-2:], strict=True
            )
        )
        outputs.append(rows.to(features) @ features[int(index)] @ columns.to(features).T)
    return torch.stack(outputs)


def bin_weights(start: float, extent: float, bins: int, ratio: int, pixels: int) -> Tensor:
    """How much of every pixel of an axis goes into every bin, (bins, pixels)."""
    samples = ratio if ratio > 0 else math.ceil(extent / bins)
    weights = torch.zeros(bins, pixels, dtype=torch.float64)
    for b in range(bins):
        for s in range(samples):
            position = start + extent / bins * (b + (s + 0.5) / samples)
            if -1 <= position <= pixels:  # further outside there is nothing
                position = min(max(position, 0.0), pixels - 1.0)
                for pixel in range(pixels):
                    weights[b, pixel] += max(0.0, 1 - abs(position - pixel)) / samples
    return weights


def reference_focal_loss(
    logits: Tensor, target: Tensor, weight: Tensor | None, gamma: float, alpha: float
) -> Tensor:
    """Focal loss, term by term; a background row belongs to no class."""
    rows = []
    for row, label in zip(logits, target.tolist(), strict=True):
        terms = []
        for c, p in enumerate(row.sigmoid()):
            positive = -alpha * (1 - p) ** gamma * p.log()
            negative = -(1 - alpha) * p**gamma * (1 - p).log()
            terms.append(positive if c == label else negative)
        is_weighted = weight is not None and 0 <= label < len(weight)
        rows.append(torch.stack(terms) * (weight[label] if is_weighted else 1))
    return torch.stack(rows)


TARGET = torch.tensor([0, 3, 1, 4, 2, 4])  # 4 of 4 classes is background
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def logits(dtype: torch.dtype = torch.float64, device: str = 'cpu') -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = 3 * torch.randn(6, 4, dtype=torch.float64, generator=generator)
    return values.to(device, dtype)
