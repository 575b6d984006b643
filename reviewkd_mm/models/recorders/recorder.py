"""Read the features of a running model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.recorders.base_tap import BaseTap
from reviewkd_mm.registry import MODELS, SCOPE, look_up
from reviewkd_mm.utils import did_you_mean

Tap = str | Mapping | BaseTap


class Recorder:
    """Read features out of a running model at one or several taps.

    Args:
        taps (str | dict | BaseTap | Sequence): One tap or a list of taps, shallow to deep. A
            string taps a module's output; ``dict(type='ModuleInputs', source=..., call=-1,
            layout='NCHW')`` says more.

    Raises:
        ValueError: If there is no tap, a tap is none of the above, or the ``type`` of one is no
            tap's.

    Examples:
        >>> recorder = Recorder(['backbone.layer1', 'backbone.layer2'])
        >>> recorder.attach(model)
        >>> model(images)
        >>> shallow, deep = recorder.features()
        >>> recorder.close()
    """

    def __init__(self, taps: Tap | Sequence[Tap]) -> None:
        taps = list(taps) if isinstance(taps, (list, tuple)) else [taps]
        if not taps:
            raise ConfigError('expected at least one tap, got an empty list')
        self.taps = [_build(tap) for tap in taps]

    def attach(self, model: nn.Module) -> None:
        """Hook the tapped modules and record from now on.

        Modules that were replaced since the last time are hooked again.

        Args:
            model (nn.Module): The model to read.

        Raises:
            ValueError: If the model lacks a tapped module.
        """
        for tap in self.taps:
            tap.attach(model)

    def pause(self) -> None:
        """Ignore the model's calls until the next :meth:`attach`; the hooks stay."""
        for tap in self.taps:
            tap.recording = False

    @contextmanager
    def recording(self, model: nn.Module) -> Iterator[None]:
        """Record afresh inside the block, and only there.

        A backward pass after the block runs modules again where activations are checkpointed:
        that is not recorded.

        Args:
            model (nn.Module): The model to read.
        """
        self.clear()
        self.attach(model)
        try:
            yield
        finally:
            self.pause()

    @property
    def recorded(self) -> bool:
        """Whether every tap has recorded its value."""
        return all(tap.recorded for tap in self.taps)

    def features(self) -> list[Tensor]:
        """Return what was recorded since the last :meth:`clear`.

        Returns:
            list[Tensor]: Features of all taps in order, tuples flattened, (N, C) as
            (N, C, 1, 1).

        Raises:
            RuntimeError: If a tap recorded nothing.
        """
        return [feature for tap in self.taps for feature in tap.features()]

    def names(self) -> list[str]:
        """Name the recorded features.

        Returns:
            list[str]: A name for each of :meth:`features`, such as ``'neck[0]'``.
        """
        return [name for tap in self.taps for name in tap.names()]

    def describe_no_map(self) -> str:
        """Name the first feature that is neither a map (N, C, H, W) nor a vector (N, C).

        Returns:
            str: Its name and shape, and what gives maps if that is known; '' if there is none.
        """
        for tap in self.taps:
            for name, feature in zip(tap.names(), tap.features(), strict=True):
                if feature.dim() != 4:
                    return f"tap '{name}' gives {tuple(feature.shape)}{tap.where_maps_are()}"
        return ''

    def clear(self) -> None:
        """Forget what was recorded."""
        for tap in self.taps:
            tap.clear()

    def close(self) -> None:
        """Remove all hooks and forget what was recorded."""
        for tap in self.taps:
            tap.close()


def _build(tap: Tap) -> BaseTap:
    if isinstance(tap, BaseTap):
        return tap
    if isinstance(tap, str):
        tap = dict(type='ModuleOutputs', source=tap)
    if not isinstance(tap, Mapping) or 'type' not in tap:
        raise ConfigError(
            f"expected a module path or a dict(type='ModuleInputs', source=...), got {tap!r}"
        )
    with MODELS.switch_scope_and_registry(SCOPE) as registry:
        if not _is_tap(look_up(registry, tap['type'])):
            raise ConfigError(_no_tap(tap))
        return registry.build(dict(tap))


def _no_tap(tap: Mapping) -> str:
    names = [name for name, found in MODELS.module_dict.items() if _is_tap(found)]
    return f'type={tap["type"]!r} is no tap; {did_you_mean(str(tap["type"]), sorted(names))}'


def _is_tap(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, BaseTap)
