"""Fold BatchNorm into convolutions where the model's own outputs prove that nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reviewkd_mm.models.distillers.probe import FAILURES

Run = Callable[[], Sequence[Tensor]]


@dataclass
class _Pair:
    """A convolution and the BatchNorm that reads its output, by name."""

    conv: str
    norm: str


@torch.no_grad()
def fold_batch_norm(model: nn.Module, run: Run) -> int:
    """Fold each BatchNorm into the convolution before it, in place, if no feature changes.

    Pairs are found by what a module reads and writes in a forward, not by the order in which
    modules are defined: a network that normalises before it convolves has other pairs than its
    definition suggests. Where the features differ afterwards, the pairs at fault are left alone.

    Args:
        model (nn.Module): A model in eval mode.
        run (Callable[[], Sequence[Tensor]]): Runs it on the same input each time and returns
            the features that must not change.

    Returns:
        int: The number of pairs that were folded.
    """
    pairs, features = _find_pairs(model, run)
    return _fold_proven(model, pairs, run, features)


def _find_pairs(model: nn.Module, run: Run) -> tuple[list[_Pair], list[Tensor]]:
    """Find the BatchNorms that read what one convolution wrote, each called once in a forward."""
    written: dict[int, tuple[str, Tensor, int]] = {}
    pairs: list[_Pair] = []
    calls: dict[str, int] = {}

    def after_conv(name: str, output: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        # The tensor is kept, so that no other one gets its id.
        written[id(output)] = name, output, output._version

    def before_norm(name: str, value: Tensor | None) -> None:
        calls[name] = calls.get(name, 0) + 1
        conv, _, version = written.get(id(value), ('', None, 0))
        if conv and value._version == version:
            pairs.append(_Pair(conv, name))

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            hook = _output_hook(after_conv, name)
            handles.append(module.register_forward_hook(hook))
        elif isinstance(module, _BatchNorm) and module.track_running_stats:
            hook = _input_hook(before_norm, name)
            handles.append(module.register_forward_pre_hook(hook))
    try:
        features = [feature.clone() for feature in run()]
    finally:
        for handle in handles:
            handle.remove()
    once = [pair for pair in pairs if calls[pair.conv] == calls[pair.norm] == 1]
    return once, features


def _output_hook(act: Callable[[str, Tensor], None], name: str) -> Callable[..., None]:
    return lambda module, inputs, output: act(name, output)


def _input_hook(act: Callable[[str, Tensor], None], name: str) -> Callable[..., None]:
    return lambda module, inputs: act(name, inputs[0] if inputs else None)


def _fold_proven(
    model: nn.Module, pairs: Sequence[_Pair], run: Run, features: Sequence[Tensor]
) -> int:
    """Fold all pairs at once; if the features change, each half by itself."""
    if not pairs or not features:
        return 0
    unfolded = [
        (pair, model.get_submodule(pair.conv), model.get_submodule(pair.norm)) for pair in pairs
    ]
    for pair, conv, norm in unfolded:
        _replace(model, pair, fuse_conv_bn_eval(conv, norm), nn.Identity())
    if _gives(run, features):
        return len(pairs)
    for pair, conv, norm in unfolded:
        _replace(model, pair, conv, norm)
    if len(pairs) == 1:
        return 0
    half = len(pairs) // 2
    return sum(_fold_proven(model, part, run, features) for part in (pairs[:half], pairs[half:]))


def _replace(model: nn.Module, pair: _Pair, conv: nn.Module, norm: nn.Module) -> None:
    model.set_submodule(pair.conv, conv)
    model.set_submodule(pair.norm, norm)


def _gives(run: Run, features: Sequence[Tensor]) -> bool:
    try:
        found = run()
    except FAILURES:  # A model may read an attribute of a BatchNorm that is gone.
        return False
    return all(_is_close(a, b) for a, b in zip(found, features, strict=True))


def _is_close(actual: Tensor, expected: Tensor) -> bool:
    # Half of the digits: rounding stays far below, a wrong pair is far above.
    tolerance = torch.finfo(expected.dtype).eps ** 0.5
    return bool((actual - expected).norm() <= tolerance * expected.norm())
