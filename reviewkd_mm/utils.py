"""What several nouns need: hints at the nearest name, and a forked random state."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import numpy as np
import torch

from reviewkd_mm.errors import ConfigError


def did_you_mean(name: str, choices: Iterable[str], limit: int = 3) -> str:
    """Return a hint that names the choices nearest to a mistyped name.

    Args:
        name (str): What the user wrote.
        choices (Iterable[str]): The valid names.
        limit (int): How many names to give at the most. Defaults to 3.

    Returns:
        str: ``"did you mean 'a', 'b'?"``, or the first choices where none is near.

    Examples:
        >>> did_you_mean('nek', ['backbone', 'neck'])
        "did you mean 'neck'?"
    """
    choices = list(dict.fromkeys(choices))
    if not choices:
        return 'there is nothing to choose from'
    nearest = get_close_matches(name, choices, n=limit, cutoff=0.5)
    if not nearest:  # Upper and lower case may be all that differs.
        by_lower = {choice.lower(): choice for choice in choices}
        near = get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.5)
        nearest = [by_lower[choice] for choice in near]
    if nearest:
        return f'did you mean {_quote(nearest)}?'
    more = f' … ({len(choices)} in all)' if len(choices) > 12 else ''
    return f'choose from {_quote(choices[:12])}{more}'


def _quote(names: Iterable[str]) -> str:
    return ', '.join(f"'{name}'" for name in names)


def check_bool(name: str, value: bool) -> bool:
    """Return a setting if it is True or False; a word such as ``'False'`` would count as True.

    Args:
        name (str): The config key.
        value (bool): The setting.

    Returns:
        bool: The setting.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(value, bool):
        raise ConfigError(f'{name}={value!r}: expected True or False')
    return value


@contextmanager
def forked_rng(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's generators inside the block and restore them after it.

    Args:
        seed (int): The seed inside the block.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    # Only the device in use, and only if one is: asking for another's state would make a context
    # on it, and torch.manual_seed would reseed CUDA for good where it is not initialised yet.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
