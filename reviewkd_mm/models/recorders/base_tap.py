"""What every tap shares: one place in a model where a value is read."""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from reviewkd_mm.errors import ConfigError, RunError
from reviewkd_mm.models.recorders.module_path import ancestry, find_module
from reviewkd_mm.models.recorders.recorded_value import RecordedValue

ALL = 'all'
LAYOUTS = ('NCHW', 'NHWC')


class BaseTap(metaclass=ABCMeta):
    """Read the value at one module through a forward hook.

    The value is recorded as it is at the tap. A tensor that a later in-place op overwrites
    (an in-place ReLU after the tap) is cloned. Which ones those are is learned from the
    tensors' version counters in the first forward of each mode, since dropout and its like act
    only in training mode: that one clones all, for the case that it has to.

    Args:
        source (str): Path of the module, see :func:`find_module`.
        call (int | str): Which call of the module in one forward is read; negative counts from
            the last one, ``'all'`` reads all in order. Defaults to -1.
        layout (str): Order of the axes of a map, ``'NCHW'`` or ``'NHWC'``. Defaults to
            ``'NCHW'``.

    Raises:
        ValueError: If ``call`` is no index, or ``layout`` is another.
    """

    # What a name adds to the path of the module.
    side = ''

    def __init__(self, source: str, call: int | str = -1, layout: str = 'NCHW') -> None:
        if call != ALL and (not isinstance(call, int) or isinstance(call, bool)):
            raise ConfigError(
                f"call={call!r}: expected the index of a call, such as 0 or -1, or '{ALL}'"
            )
        if layout not in LAYOUTS:
            raise ConfigError(f"layout={layout!r}: expected 'NCHW' or 'NHWC'")
        self.source = source
        self.call = call
        self.layout = layout
        self.recording = False
        self._model: nn.Module | None = None
        self._module: nn.Module | None = None
        self._handle: RemovableHandle | None = None
        self._calls = 0
        self._values: dict[int, RecordedValue] = {}
        self._overwritten: dict[bool, bool] = {}

    @abstractmethod
    def _register(self, module: nn.Module) -> RemovableHandle:
        """Register the hook, which passes its value on to :meth:`_record`."""

    def __deepcopy__(self, memo: dict) -> BaseTap:
        """Return a tap like this one that is attached nowhere: the copy of a model is another."""
        tap = copy.copy(self)
        tap._model = tap._module = tap._handle = None
        tap._calls, tap._values, tap._overwritten = 0, {}, {}
        tap.recording = False
        return tap

    def attach(self, model: nn.Module) -> None:
        """Record from now on: hook the module, or its replacement if it was exchanged.

        Args:
            model (nn.Module): The model that has the module.

        Raises:
            ValueError: If the model has no such module.
        """
        module = find_module(model, self.source)
        if module is not self._module:
            self.close()
            self._module, self._handle = module, self._register(module)
            # Other in-place ops may follow another module.
            self._overwritten.clear()
        self._model = model
        self.recording = True

    def clear(self) -> None:
        """Forget what was recorded."""
        self._calls = 0
        self._values.clear()

    def close(self) -> None:
        """Remove the hook and forget what was recorded."""
        if self._handle is not None:
            self._handle.remove()
        self._model = self._module = self._handle = None
        self.recording = False
        self.clear()

    @property
    def recorded(self) -> bool:
        """Whether the call that is asked for has been recorded."""
        return bool(self._wanted())

    def features(self) -> list[Tensor]:
        """Return the recorded tensors; tuples and dicts are flattened in order.

        Returns:
            list[Tensor]: The tensors, (N, C) as (N, C, 1, 1) and maps as (N, C, H, W).

        Raises:
            ValueError: If the value is no tensor or tensors.
            RuntimeError: If nothing was recorded, or an in-place op that did not act before
                overwrote the value.
        """
        values = self._wanted()
        if not values:
            raise RunError(self._why_nothing())
        for value in values:
            if value.stray is not None:
                raise ConfigError(self._why_unreadable(value.stray))
        overwritten = any(value.overwritten for value in values)
        self._overwritten.setdefault(values[0].training, overwritten)
        if overwritten and not all(value.cloned for value in values):
            raise RunError(
                f"the value at tap '{self.source}' was overwritten by an in-place op that did not "
                'act in the first forward; tap a module before or after that op'
            )
        # What was cloned only to learn that nothing overwrites it is not used: the order in which
        # gradients are summed would differ from that of all later steps.
        each = [value.tensors if overwritten else value.originals for value in values]
        return [self._as_map(tensor) for tensors in each for tensor in tensors]

    def names(self) -> list[str]:
        """Name what was recorded: ``'neck'``, or ``'neck[0]'`` … where it is several tensors.

        Where the module was called several times the call and their number follow.

        Returns:
            list[str]: A name for each of :meth:`features`.
        """
        values = self._wanted()
        calls = range(len(values)) if self.call == ALL else [self.call]
        names = []
        for call, value in zip(calls, values, strict=True):
            count = len(value.originals)
            indices = [''] if count == 1 else [f'[{index}]' for index in range(count)]
            suffix = f' call={call} of {self._calls}' if self._calls > 1 else ''
            names += [f'{self.source}{index}{self.side}{suffix}' for index in indices]
        return names

    def trainable(self, model: nn.Module) -> bool:
        """Return whether the tapped stage has a parameter that trains.

        The stage is the nearest module on the path that has parameters: a ReLU has none, its
        block does.

        Args:
            model (nn.Module): The model that has the module.
        """
        for module in reversed(ancestry(model, self.source)):
            parameters = list(module.parameters())
            if parameters:
                return any(p.requires_grad for p in parameters)
        return False

    def where_maps_are(self) -> str:
        """Say with which settings of the model a tap gives maps; '' if nothing is known."""
        names = self.source.split('.')
        for depth, module in enumerate(ancestry(self._model, self.source)[1:], start=1):
            choices = []
            if depth < len(names) and hasattr(module, 'out_indices'):
                choices.append('the stages in its out_indices')
            if 'featmap' in getattr(module, 'OUT_TYPES', ()):  # MMPretrain's transformers
                choices.append("out_type='featmap'")
            if choices:
                return f"; for maps tap '{'.'.join(names[:depth])}' with {' and '.join(choices)}"
        return ''

    def _record(self, value: Any) -> None:
        if not self.recording:
            return
        index = self._calls
        self._calls += 1
        if self.call != ALL and self.call < 0:
            self._values.pop(index + self.call, None)  # too many calls ago by now
        elif self.call not in (ALL, index):
            return
        # The model's mode, not the module's: dropout may follow a stage that is kept in eval.
        training = self._model.training
        clone = self._overwritten.get(training, True)
        self._values[index] = RecordedValue(value, training, clone)

    def _wanted(self) -> list[RecordedValue]:
        if self.call == ALL:
            return list(self._values.values())
        value = self._values.get(self.call if self.call >= 0 else self._calls + self.call)
        return [] if value is None else [value]

    def _as_map(self, tensor: Tensor) -> Tensor:
        if tensor.dim() == 2:
            return tensor[:, :, None, None]
        if tensor.dim() == 4 and self.layout == 'NHWC':
            return tensor.permute(0, 3, 1, 2)
        return tensor

    def _why_unreadable(self, stray: str) -> str:
        return (
            f"tap '{self.source}' reads a value with a part of type {stray}; expected a tensor, "
            f'or a tuple, list or dict of tensors{self.where_maps_are()}'
        )

    def _why_nothing(self) -> str:
        if self._calls:
            return (
                f"tap '{self.source}' asks for call={self.call}, but its module was called "
                f'{self._calls} times in a forward'
            )
        message = f"tap '{self.source}' recorded nothing: no forward reached its module"
        children = [name for name, _ in self._module.named_children()] if self._module else []
        if not children:
            return message
        paths = ', '.join(f"'{self.source}.{name}'" for name in children)
        return (
            f'{message} through a call that hooks can see; of its children those that are called '
            f'can be tapped: {paths}'
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.source}', call={self.call!r})"


class TapHook:
    """A forward hook that stays with its module: in a copy of the module it does nothing.

    Args:
        record (Callable, optional): What is called with the hook's arguments. Defaults to None.
    """

    def __init__(self, record: Callable[..., None] | None = None) -> None:
        self.record = record

    def __call__(self, *args: Any) -> None:
        if self.record is not None:
            self.record(*args)

    def __deepcopy__(self, memo: dict) -> TapHook:
        return TapHook()
