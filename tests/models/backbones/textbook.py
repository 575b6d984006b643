"""The networks in eval mode and the layout of their files, written from their descriptions.

The names are those of RepDistiller's checkpoints (ReviewKD's for MobileNetV1). A ``forward`` needs
the tensors of a file alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
Weights = Mapping[str, Tensor]

VGG = {
    8: [[64], [128], [256], [512], [512]],
    11: [[64], [128], [256] * 2, [512] * 2, [512] * 2],
    13: [[64] * 2, [128] * 2, [256] * 2, [512] * 2, [512] * 2],
}
# Expansion, channels, blocks, stride.
MOBILENET_V2 = [
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]
MOBILENET_V1 = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
HALVING = (2, 4, 6, 12)


class Features(NamedTuple):
    """The tapped feature maps before and after their last ReLU, and the logits."""

    before: list[Tensor]
    after: list[Tensor]
    logits: Tensor


def conv_shapes(name: str, out: int, inputs: int, kernel: int = 1, bias: bool = False) -> Shapes:
    shapes = {f'{name}.weight': (out, inputs, kernel, kernel)}
    return {**shapes, f'{name}.bias': (out,)} if bias else shapes


def norm_shapes(name: str, channels: int) -> Shapes:
    vectors = ('weight', 'bias', 'running_mean', 'running_var')
    shapes = {f'{name}.{vector}': (channels,) for vector in vectors}
    return {**shapes, f'{name}.num_batches_tracked': ()}


def layer_shapes(
    conv: str, norm: str, out: int, inputs: int, kernel: int = 1, bias: bool = False
) -> Shapes:
    return conv_shapes(conv, out, inputs, kernel, bias) | norm_shapes(norm, out)


def linear_shapes(name: str, classes: int, channels: int) -> Shapes:
    return {f'{name}.weight': (classes, channels), f'{name}.bias': (classes,)}


def numbered_shapes(prefix: str, number: int, out: int, inputs: int, kernel: int = 1) -> Shapes:
    """Shapes of ``conv{number}`` and ``bn{number}``."""
    return layer_shapes(f'{prefix}conv{number}', f'{prefix}bn{number}', out, inputs, kernel=kernel)


def vgg_shapes(depth: int, classes: int) -> Shapes:
    shapes, inputs = linear_shapes('classifier', classes, 512), 3
    for block, channels in enumerate(VGG[depth]):
        for index, out in enumerate(channels):
            conv, norm = f'block{block}.{3 * index}', f'block{block}.{3 * index + 1}'
            shapes |= layer_shapes(conv, norm, out, inputs, kernel=3, bias=True)
            inputs = out
    return shapes


def mobilenet_v2_shapes(classes: int) -> Shapes:
    shapes = linear_shapes('classifier.0', classes, 1280)
    shapes |= layer_shapes('conv1.0', 'conv1.1', 16, 3, kernel=3)
    shapes |= layer_shapes('conv2.0', 'conv2.1', 1280, 160)
    inputs = 16
    for stage, (expansion, channels, blocks, _) in enumerate(MOBILENET_V2):
        for block in range(blocks):
            conv, wide = f'blocks.{stage}.{block}.conv', inputs * expansion
            shapes |= layer_shapes(f'{conv}.0', f'{conv}.1', wide, inputs)
            shapes |= layer_shapes(f'{conv}.3', f'{conv}.4', wide, 1, kernel=3)
            shapes |= layer_shapes(f'{conv}.6', f'{conv}.7', channels // 2, wide)
            inputs = channels // 2
    return shapes


def shufflenet_v1_shapes(classes: int) -> Shapes:
    shapes, inputs = linear_shapes('linear', classes, 960), 24
    shapes |= numbered_shapes('', 1, 24, 3)
    for stage, (channels, blocks) in enumerate([(240, 4), (480, 8), (960, 4)], start=1):
        for block in range(blocks):
            prefix = f'layer{stage}.{block}.'
            out = channels - inputs if block == 0 else channels
            mid = int(out / 4)
            shapes |= numbered_shapes(prefix, 1, mid, inputs if inputs == 24 else inputs // 3)
            shapes |= numbered_shapes(prefix, 2, mid, 1, kernel=3)
            shapes |= numbered_shapes(prefix, 3, out, mid // 3)
            inputs = channels
    return shapes


def shufflenet_v2_shapes(classes: int) -> Shapes:
    shapes, inputs = linear_shapes('linear', classes, 1024), 24
    shapes |= numbered_shapes('', 1, 24, 3) | numbered_shapes('', 2, 1024, 464)
    for stage, (channels, blocks) in enumerate([(116, 3), (232, 7), (464, 3)], start=1):
        half, prefix = channels // 2, f'layer{stage}.0.'
        shapes |= numbered_shapes(prefix, 1, inputs, 1, kernel=3)
        shapes |= numbered_shapes(prefix, 2, half, inputs)
        shapes |= numbered_shapes(prefix, 3, half, inputs)
        shapes |= numbered_shapes(prefix, 4, half, 1, kernel=3)
        shapes |= numbered_shapes(prefix, 5, half, half)
        for block in range(1, blocks + 1):
            prefix = f'layer{stage}.{block}.'
            shapes |= numbered_shapes(prefix, 1, half, half)
            shapes |= numbered_shapes(prefix, 2, half, 1, kernel=3)
            shapes |= numbered_shapes(prefix, 3, half, half)
        inputs = channels
    return shapes


def resnet50_shapes(classes: int) -> Shapes:
    shapes, inputs = linear_shapes('linear', classes, 2048), 64
    shapes |= numbered_shapes('', 1, 64, 3, kernel=3)
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        mid = 64 * 2 ** (stage - 1)
        for block in range(blocks):
            prefix = f'layer{stage}.{block}.'
            shapes |= numbered_shapes(prefix, 1, mid, inputs)
            shapes |= numbered_shapes(prefix, 2, mid, mid, kernel=3)
            shapes |= numbered_shapes(prefix, 3, 4 * mid, mid)
            if block == 0:
                shortcut = f'{prefix}shortcut'
                shapes |= layer_shapes(f'{shortcut}.0', f'{shortcut}.1', 4 * mid, inputs)
            inputs = 4 * mid
    return shapes


def mobilenet_v1_shapes(classes: int) -> Shapes:
    shapes, inputs = linear_shapes('fc', classes, 1024), 32
    shapes |= layer_shapes('model.0.0', 'model.0.1', 32, 3, kernel=3)
    for block, out in enumerate(MOBILENET_V1, start=1):
        name = f'model.{block}'
        shapes |= layer_shapes(f'{name}.0', f'{name}.1', inputs, 1, kernel=3)
        shapes |= layer_shapes(f'{name}.3', f'{name}.4', out, inputs)
        inputs = out
    return shapes


def conv(x: Tensor, w: Weights, name: str, stride: int = 1) -> Tensor:
    """A convolution whose groups follow from the shape of its weight."""
    weight, bias = w[f'{name}.weight'], w.get(f'{name}.bias')
    padding, groups = weight.shape[-1] // 2, x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    keys = ('running_mean', 'running_var', 'weight', 'bias')
    return F.batch_norm(x, *(w[f'{name}.{key}'] for key in keys))


def numbered(x: Tensor, w: Weights, prefix: str, number: int, stride: int = 1) -> Tensor:
    """Apply ``conv{number}`` and ``bn{number}``."""
    return norm(conv(x, w, f'{prefix}conv{number}', stride), w, f'{prefix}bn{number}')


def pair(x: Tensor, w: Weights, prefix: str, index: int, stride: int = 1) -> Tensor:
    """Apply the convolution at an index of a sequence and the BN that follows it."""
    return norm(conv(x, w, f'{prefix}.{index}', stride), w, f'{prefix}.{index + 1}')


def classify(x: Tensor, w: Weights, name: str) -> Tensor:
    return F.linear(x.mean((2, 3)), w[f'{name}.weight'], w[f'{name}.bias'])


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Take the first channel of each group, then the second of each, and so on."""
    size = x.shape[1] // groups
    order = [group * size + index for index in range(size) for group in range(groups)]
    return x[:, order]


def resnet(x: Tensor, w: Weights, blocks: int) -> Features:
    before, after = [], []
    x = numbered(x, w, '', 1).relu()
    for stage in (1, 2, 3):
        for block in range(blocks):
            prefix = f'layer{stage}.{block}.'
            stride = 2 if stage > 1 and block == 0 else 1
            y = numbered(x, w, prefix, 1, stride).relu()
            y = numbered(y, w, prefix, 2)
            if f'{prefix}downsample.0.weight' in w:
                x = pair(x, w, f'{prefix}downsample', 0, stride)
            y = x + y
            x = y.relu()
        before.append(y)
        after.append(x)
    return Features(before, after, classify(x, w, 'fc'))


def wide_resnet(x: Tensor, w: Weights, blocks: int) -> Features:
    """Its features are those before and after the next BN and ReLU."""
    raw = []
    x = conv(x, w, 'conv1')
    for stage in (1, 2, 3):
        for block in range(blocks):
            prefix = f'block{stage}.layer.{block}.'
            stride = 2 if stage > 1 and block == 0 else 1
            y = norm(x, w, f'{prefix}bn1').relu()
            if f'{prefix}convShortcut.weight' in w:
                x = conv(y, w, f'{prefix}convShortcut', stride)
            y = norm(conv(y, w, f'{prefix}conv1', stride), w, f'{prefix}bn2').relu()
            x = x + conv(y, w, f'{prefix}conv2')
        raw.append(x)
    names = ('block2.layer.0.bn1', 'block3.layer.0.bn1', 'bn1')
    before = [norm(x, w, name) for x, name in zip(raw, names, strict=True)]
    after = [x.relu() for x in before]
    return Features(before, after, classify(after[-1], w, 'fc'))


def vgg(x: Tensor, w: Weights, depth: int) -> Features:
    before, after = [], []
    pooled = (1, 2, 3, 4) if x.shape[2] == 64 else (1, 2, 3)
    for block, channels in enumerate(VGG[depth]):
        if block in pooled:
            x = F.max_pool2d(x, 2)
        for index in range(len(channels)):
            y = pair(x, w, f'block{block}', 3 * index)
            x = y.relu()
        before.append(y)
        after.append(x)
    return Features(before[1:], after[1:], classify(x, w, 'classifier'))


def mobilenet_v2(x: Tensor, w: Weights) -> Features:
    """Its four features have no ReLU: they are given as those before and after it."""
    outputs = []
    x = pair(x, w, 'conv1', 0, stride=2).relu()
    for stage, (_, _, blocks, first_stride) in enumerate(MOBILENET_V2):
        for block in range(blocks):
            prefix = f'blocks.{stage}.{block}.conv'
            stride = first_stride if block == 0 else 1
            y = pair(x, w, prefix, 0).relu()
            y = pair(y, w, prefix, 3, stride).relu()
            y = pair(y, w, prefix, 6)
            x = x + y if x.shape == y.shape else y
        outputs.append(x)
    tapped = [outputs[stage] for stage in (1, 2, 4, 6)]
    return Features(tapped, tapped, classify(pair(x, w, 'conv2', 0).relu(), w, 'classifier.0'))


def shufflenet_v1(x: Tensor, w: Weights) -> Features:
    before, after = [], []
    x = numbered(x, w, '', 1).relu()
    for stage, blocks in ((1, 4), (2, 8), (3, 4)):
        for block in range(blocks):
            prefix = f'layer{stage}.{block}.'
            stride, groups = (2 if block == 0 else 1), (1 if x.shape[1] == 24 else 3)
            y = shuffle(numbered(x, w, prefix, 1).relu(), groups)
            y = numbered(y, w, prefix, 2, stride).relu()
            y = numbered(y, w, prefix, 3)
            pooled = F.avg_pool2d(x, 3, stride=2, padding=1)
            y = y + x if stride == 1 else torch.cat([y, pooled], 1)
            x = y.relu()
        before.append(y)
        after.append(x)
    return Features(before, after, classify(x, w, 'linear'))


def shufflenet_v2(x: Tensor, w: Weights) -> Features:
    before, after = [], []
    x = numbered(x, w, '', 1).relu()
    for stage, blocks in ((1, 3), (2, 7), (3, 3)):
        prefix = f'layer{stage}.0.'
        left = numbered(numbered(x, w, prefix, 1, stride=2), w, prefix, 2).relu()
        right = numbered(x, w, prefix, 3).relu()
        right = numbered(numbered(right, w, prefix, 4, stride=2), w, prefix, 5).relu()
        x = shuffle(torch.cat([left, right], 1), 2)
        for block in range(1, blocks + 1):
            prefix, half = f'layer{stage}.{block}.', x.shape[1] // 2
            untouched, y = x[:, :half], x[:, half:]
            y = numbered(y, w, prefix, 1).relu()
            y = numbered(numbered(y, w, prefix, 2), w, prefix, 3)
            x = shuffle(torch.cat([untouched, y.relu()], 1), 2)
        before.append(torch.cat([untouched, y], 1))
        after.append(x)
    return Features(before, after, classify(numbered(x, w, '', 2).relu(), w, 'linear'))


def resnet50(x: Tensor, w: Weights) -> Features:
    before, after = [], []
    x = numbered(x, w, '', 1).relu()
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            prefix = f'layer{stage}.{block}.'
            stride = 2 if stage > 1 and block == 0 else 1
            y = numbered(x, w, prefix, 1).relu()
            y = numbered(y, w, prefix, 2, stride).relu()
            y = numbered(y, w, prefix, 3)
            x = pair(x, w, f'{prefix}shortcut', 0, stride) if block == 0 else x
            y = y + x
            x = y.relu()
        before.append(y)
        after.append(x)
    return Features(before, after, classify(x, w, 'linear'))


def mobilenet_v1(x: Tensor, w: Weights) -> Features:
    before, after = [], []
    x = pair(x, w, 'model.0', 0, stride=2).relu()
    for block in range(1, 14):
        name = f'model.{block}'
        x = pair(x, w, name, 0, stride=2 if block in HALVING else 1).relu()
        y = pair(x, w, name, 3)
        x = y.relu()
        if block in (3, 5, 11, 13):
            before.append(y)
            after.append(x)
    return Features(before, after, classify(x, w, 'fc'))


class Network(NamedTuple):
    """The layout of a network's file for a number of classes, and its forward."""

    shapes: Callable[[int], Shapes]
    forward: Callable[[Tensor, Weights], Features]


NETWORKS = {
    **{f'vgg{d}': Network(partial(vgg_shapes, d), partial(vgg, depth=d)) for d in VGG},
    'mobilenetv2': Network(mobilenet_v2_shapes, mobilenet_v2),
    'shufflenetv1': Network(shufflenet_v1_shapes, shufflenet_v1),
    'shufflenetv2': Network(shufflenet_v2_shapes, shufflenet_v2),
    'resnet50': Network(resnet50_shapes, resnet50),
    'mobilenetv1': Network(mobilenet_v1_shapes, mobilenet_v1),
}


def count_parameters(arch: str, classes: int) -> int:
    """Add up the learned tensors in a file."""
    shapes = NETWORKS[arch].shapes(classes)
    return sum(
        torch.Size(shape).numel()
        for name, shape in shapes.items()
        if name.endswith(('weight', 'bias'))
    )


def random_weights(
    arch: str, classes: int = 10, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Return a file's tensors, no two BNs of which act alike."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in NETWORKS[arch].shapes(classes).items():
        if not shape:
            weights[name] = torch.tensor(7)
        elif len(shape) > 1:
            std = (2 / torch.Size(shape[1:]).numel()) ** 0.5
            weights[name] = torch.randn(shape, dtype=dtype, generator=generator) * std
        elif name.endswith(('.bias', '.running_mean')):
            weights[name] = torch.rand(shape, dtype=dtype, generator=generator) - 0.5
        else:
            weights[name] = torch.rand(shape, dtype=dtype, generator=generator) + 0.5
    return weights
