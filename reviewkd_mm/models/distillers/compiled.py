"""torch.compile, with the ordinary function in its place where it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from mmengine.logging import print_log


class Compiled:
    """Call a function through torch.compile; where that fails, say so once and call it as it is.

    Compiling happens in the first call, and again for shapes of another kind.

    Args:
        function (Callable): What is compiled.
        name (str): What the warning calls it.
        eager (Callable, optional): What is called in its place, with the same arguments.
            Defaults to None, which means the function.
    """

    def __init__(self, function: Callable, name: str, eager: Callable | None = None) -> None:
        self._compiled: Callable | None = torch.compile(function)
        self._eager = eager or function
        self._name = name

    def __deepcopy__(self, memo: dict) -> Compiled:
        return self

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            return self._eager(*args)
        try:
            return self._compiled(*args)
        except Exception as error:
            # Dynamo, Inductor and the C++ and Triton compilers raise all kinds of errors. One
            # of the function itself is raised again by the function itself.
            result = self._eager(*args)
            self._compiled = None
            reason = str(error).strip().partition('\n')[0]
            print_log(
                f'{self._name} is not compiled, it runs as without the option: '
                f'{type(error).__name__}: {reason}',
                logger='current',
                level=logging.WARNING,
            )
            return result
