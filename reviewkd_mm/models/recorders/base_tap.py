"""What every tap shares: one place in a model where a value is read."""

from __future__ import annotations

import copy
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from reviewkd_mm.errors import ConfigError, RunError
from reviewkd_mm.models.recorders.module_path import ancestry, find_module


class BaseTap(metaclass=ABCMeta):
    """Read the value at one module through a forward hook.

    The value is recorded as it is at the tap. A tensor that a later in-place op overwrites
    (an in-place ReLU after the tap) is cloned. Which ones those are is learned from the
    tensors' version counters in the first forward of each mode, since dropout and its like act
    only in training mode: that one clones all, for the case that it has to.

    Args:
        source (str): Path of the module, see :func:`find_module`.
        call (int): Which call of the module in one forward is read; negative counts from the
            last one. Defaults to -1.

    Raises:
        ValueError: If ``call`` is no integer.
    """

    # What a name adds to the path of the module.
    side = ''

    def __init__(self, source: str, call: int = -1) -> None:
        if not isinstance(call, int) or isinstance(call, bool):
            raise ConfigError(f'call={call!r}: expected the index of a call, such as 0 or -1')
        self.source = source
        self.call = call
        self.recording = False
        self._model: nn.Module | None = None
        self._module: nn.Module | None = None
        self._handle: RemovableHandle | None = None
        self._calls = 0
        self._values: dict[int, _Value] = {}
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
        return self._wanted() is not None

    def features(self) -> list[Tensor]:
        """Return the recorded tensors; tuples and dicts are flattened in order.

        Returns:
            list[Tensor]: The tensors, (N, C) as (N, C, 1, 1).

        Raises:
            RuntimeError: If nothing was recorded, or an in-place op that did not act before
                overwrote the value.
        """
        value = self._wanted()
        if value is None:
            raise RunError(self._why_nothing())
        overwritten = value.overwritten
        self._overwritten.setdefault(value.training, overwritten)
        if overwritten and not value.cloned:
            raise RunError(
                f"the value at tap '{self.source}' was overwritten by an in-place op that did not "
                'act in the first forward; tap a module before or after that op'
            )
        # What was cloned only to learn that nothing overwrites it is not used: the order in which
        # gradients are summed would differ from that of all later steps.
        tensors = value.tensors if overwritten else value.originals
        return [t[:, :, None, None] if t.dim() == 2 else t for t in tensors]

    def names(self) -> list[str]:
        """Name what was recorded: ``'neck'``, or ``'neck[0]'`` … where it is several tensors.

        Returns:
            list[str]: A name for each of :meth:`features`.
        """
        count = len(self.features())
        indices = [''] if count == 1 else [f'[{index}]' for index in range(count)]
        call = '' if self.call == -1 else f' call={self.call}'
        return [f'{self.source}{index}{self.side}{call}' for index in indices]

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

    def _record(self, value: Any) -> None:
        if not self.recording:
            return
        index = self._calls
        self._calls += 1
        if self.call < 0:
            self._values.pop(index + self.call, None)  # too many calls ago by now
        elif index != self.call:
            return
        # The model's mode, not the module's: dropout may follow a stage that is kept in eval.
        training = self._model.training
        clone = self._overwritten.get(training, True)
        self._values[index] = _Value(list(self._flatten(value)), training, clone)

    def _wanted(self) -> _Value | None:
        return self._values.get(self.call if self.call >= 0 else self._calls + self.call)

    def _flatten(self, value: Any) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from self._flatten(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from self._flatten(item)
        else:
            raise ConfigError(
                f"tap '{self.source}' reads a {type(value).__name__}; expected a tensor, or a "
                'tuple, list or dict of tensors'
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
        return f'{message} through a call that hooks can see; its children can be tapped: {paths}'

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.source}', call={self.call})"


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


class _Value:
    """The tensors of one call, with what is needed to tell whether they were overwritten."""

    def __init__(self, tensors: list[Tensor], training: bool, clone: bool) -> None:
        self.training = training
        self.cloned = clone
        self.tensors = [t.clone() for t in tensors] if clone else tensors
        self.originals = tensors
        # A compiled graph has no versions; what an earlier forward has learned holds there.
        compiling = torch.compiler.is_compiling()
        self._versions = None if compiling else [t._version for t in tensors]

    @property
    def overwritten(self) -> bool:
        if self._versions is None:
            return self.cloned
        pairs = zip(self.originals, self._versions, strict=True)
        return any(tensor._version != version for tensor, version in pairs)
