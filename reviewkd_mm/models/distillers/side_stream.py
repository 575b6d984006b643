"""Run work beside the current CUDA stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class SideStream:
    """A CUDA stream whose work may overlap with that of the current one.

    On a device without streams the work is done in turn.

    Examples:
        >>> side = SideStream()
        >>> with side.beside(images):
        ...     features = teacher(images)
        >>> loss = student(images)
        >>> side.join(features)  # before they are read
    """

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None

    @contextmanager
    def beside(self, inputs: Tensor) -> Iterator[None]:
        """Queue the work of the block on the side stream, after what has been queued so far.

        Args:
            inputs (Tensor): What the work reads, on the device that is meant.
        """
        if not inputs.is_cuda:
            yield
            return
        if self._stream is None or self._stream.device != inputs.device:
            self._stream = torch.cuda.Stream(inputs.device)
        self._stream.wait_stream(torch.cuda.current_stream(inputs.device))
        with torch.cuda.stream(self._stream):
            yield
        # The allocator must not hand their memory on before the side stream has read them.
        inputs.record_stream(self._stream)

    def join(self, results: Iterable[Tensor]) -> None:
        """Make the current stream wait for what was queued, without waiting on the CPU.

        Args:
            results (Iterable[Tensor]): What the work wrote, to be read on the current stream.
        """
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        for result in results:
            result.record_stream(current)
