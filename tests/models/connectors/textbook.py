"""The review mechanism written straight from its equations, without the package's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]

# Names here and in an ABF's state dict.
NAMES = {'conv1': 'conv1.conv', 'bn1': 'conv1.bn', 'conv2': 'conv2.conv', 'bn2': 'conv2.bn'}


def state_dict_name(name: str) -> str:
    """Translate ``'stage0.bn1.weight'`` into ``'abfs.0.conv1.bn.weight'``."""
    stage, module, parameter = name.split('.')
    return f'abfs.{stage.removeprefix("stage")}.{NAMES.get(module, "att_conv")}.{parameter}'


def nearest_resize(x: Tensor, size: Size) -> Tensor:
    """Each pixel of the result copies the pixel that its upper left corner falls into."""
    for dim, wanted in ((2, size[0]), (3, size[1])):
        source = [i * x.shape[dim] // wanted for i in range(wanted)]
        x = x.index_select(dim, torch.tensor(source))
    return x


def batch_norm(x: Tensor, weights: Mapping[str, Tensor], name: str, training: bool) -> Tensor:
    """Normalise by the statistics of the batch in training, else by the running ones."""
    statistics = [weights.get(f'{name}.running_{kind}') for kind in ('mean', 'var')]
    scale, shift = weights[f'{name}.weight'], weights[f'{name}.bias']
    # In training F.batch_norm would write into the running statistics.
    mean, var = (None, None) if training else statistics
    return F.batch_norm(x, mean, var, scale, shift, training=training, eps=1e-5)


def attend(x: Tensor, residual: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Weigh two features of one size by attention maps and add them up."""
    both = torch.cat([x, residual], dim=1)
    maps = torch.sigmoid(F.conv2d(both, weights['att.weight'], weights['att.bias']))
    return x * maps[:, 0:1] + residual * maps[:, 1:2]


def fuse(
    x: Tensor, residual: Tensor | None, size: Size, weights: Mapping[str, Tensor], training: bool
) -> tuple[Tensor, Tensor]:
    """Compute one stage's output and its residual for the next shallower stage."""
    x = batch_norm(F.conv2d(x, weights['conv1.weight']), weights, 'bn1', training)
    if residual is not None:
        r = nearest_resize(residual, x.shape[2:])
        x = attend(x, r, weights) if 'att.weight' in weights else x + r
    x = nearest_resize(x, size)
    output = F.conv2d(x, weights['conv2.weight'], padding=1)
    return batch_norm(output, weights, 'bn2', training), x


def review(
    features: Sequence[Tensor],
    sizes: Sequence[Size],
    weights: Mapping[str, Tensor],
    training: bool = True,
) -> list[Tensor]:
    """Review all stages, deepest first; returns the outputs shallow to deep."""
    outputs, residual = [], None
    for stage in reversed(range(len(features))):
        prefix = f'stage{stage}.'
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        output, residual = fuse(features[stage], residual, sizes[stage], own, training)
        outputs.insert(0, output)
    return outputs


def random_weights(
    in_channels: Sequence[int], out_channels: Sequence[int], mid: int, seed: int = 0
) -> dict[str, Tensor]:
    """Draw weights and running statistics of all stages in float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = {}
    for stage, (inner, outer) in enumerate(zip(in_channels, out_channels, strict=True)):
        own = {
            'conv1.weight': draw(mid, inner, 1, 1) / inner**0.5,
            'conv2.weight': draw(outer, mid, 3, 3) / (9 * mid) ** 0.5,
        }
        for name, channels in (('bn1', mid), ('bn2', outer)):
            own[f'{name}.weight'] = 1 + 0.2 * draw(channels)
            own[f'{name}.bias'] = 0.2 * draw(channels)
            own[f'{name}.running_mean'] = 0.5 * draw(channels)
            own[f'{name}.running_var'] = 0.5 + draw(channels) ** 2
        if stage < len(in_channels) - 1:
            own['att.weight'] = draw(2, 2 * mid, 1, 1) / (2 * mid) ** 0.5
            own['att.bias'] = 0.2 * draw(2)
        weights.update({f'stage{stage}.{name}': value for name, value in own.items()})
    return weights


def random_features(
    channels: Sequence[int], sizes: Sequence[Size], seed: int = 0, batch: int = 2
) -> list[Tensor]:
    """Draw features (N, C_i, H_i, W_i) in float64."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, c, *size, generator=generator, dtype=torch.float64)
        for c, size in zip(channels, sizes, strict=True)
    ]
