"""The tensors of one call of a module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class RecordedValue:
    """The tensors of one call, with what is needed to tell whether they were overwritten.

    Args:
        value (Any): What the module was given or returned; tuples, lists and dicts are flattened
            in order.
        training (bool): Whether the model was in training mode.
        clone (bool): Whether the tensors are cloned.
    """

    def __init__(self, value: Any, training: bool, clone: bool) -> None:
        leaves = list(_leaves(value))
        strays = [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor)]
        # It is refused when it is asked for: inside the model's forward nobody knows of the tap.
        self.stray = strays[0] if strays else None
        self.originals: list[Tensor] = [] if strays else leaves
        self.tensors = [t.clone() for t in self.originals] if clone else self.originals
        self.training = training
        self.cloned = clone
        # A compiled graph has no versions; what an earlier forward has learned holds there.
        compiling = torch.compiler.is_compiling()
        self._versions = None if compiling else [t._version for t in self.originals]

    @property
    def overwritten(self) -> bool:
        """Whether an in-place op has overwritten a tensor since."""
        if self._versions is None:
            return self.cloned
        pairs = zip(self.originals, self._versions, strict=True)
        return any(tensor._version != version for tensor, version in pairs)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, (list, tuple)):
        yield value
        return
    for item in value:
        yield from _leaves(item)
