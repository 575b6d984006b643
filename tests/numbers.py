"""How near two floating-point results have to be, on whatever processor.

How far single precision is off depends on the processor: on its kernels, the order in which they
sum, the number of threads. So a test says what it means, in one of three ways:

- In double precision it holds to :data:`EXACT`, which is far above the rounding of any processor
  and far below the mistakes that single precision would hide: :func:`assert_close64`. That is
  the simplest.
- In single or half precision it is judged by the rounding that the plain form of the same
  computation has in the same precision, in the same test: :func:`assert_within_rounding`.
- The same operations in the same order give the same bits: ``torch.equal``.

A constant bound on float32 that was tried out on one machine is none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

EXACT = 1e-9
# In eps, of float32 for half precision too: the plain form may be exact by luck.
FLOOR = 8
# A plain form that is off by more tells right from wrong no longer.
COARSE = 0.1

Tensors = Tensor | np.ndarray | Sequence[Any] | Mapping[Any, Any]


def distance(actual: Tensors, exact: Tensors) -> float:
    """Return how far tensors are off, in norm and relative to the norm of the exact one.

    Args:
        actual (Tensor | np.ndarray | Sequence | Mapping): A tensor, or tensors in sequences and
            dicts.
        exact (Tensor | np.ndarray | Sequence | Mapping): The same structure of what they should
            be.

    Returns:
        float: The greatest of all; of a tensor that should be zero the norm itself.
    """
    found, expected = dict(_tensors(actual)), dict(_tensors(exact))
    assert found.keys() == expected.keys()
    distances = [torch.tensor(0.0, dtype=torch.float64)]
    for path, tensor in found.items():
        one, other = (x.detach().cpu().double() for x in (tensor, expected[path]))
        assert one.shape == other.shape, f'{path}: {tuple(one.shape)}, not {tuple(other.shape)}'
        norm = other.norm()
        distances.append((one - other).norm() / (norm if norm > 0 else 1.0))
    return float(torch.stack(distances).max())  # torch's max keeps a nan.


def assert_close64(actual: Tensors, expected: Tensors, tolerance: float = EXACT) -> None:
    """Check that results in double precision are the same but for its rounding.

    Args:
        actual (Tensor | np.ndarray | Sequence | Mapping): The results, as for :func:`distance`.
        expected (Tensor | np.ndarray | Sequence | Mapping): What they should be.
        tolerance (float): Relative to the norm of each tensor. Defaults to :data:`EXACT`.
    """
    for path, x in [*_tensors(actual), *_tensors(expected)]:
        assert x.dtype == torch.float64, f'{path}: {x.dtype} where float64 is meant'
    off = distance(actual, expected)
    assert off <= tolerance, f'off by {off:.1e}, expected {tolerance:.1e} at most'


def assert_within_rounding(
    actual: Tensors, plain: Tensors, exact: Tensors, factor: float = 4.0
) -> None:
    """Judge results in single or half precision by the rounding of the plain form.

    ``actual`` may be off from ``exact`` by ``factor`` times as much as ``plain`` is, which is the
    same computation in its plainest form, in the same precision and on the same machine. A few
    eps are always allowed. All tensors that are given are judged together, by the one that is off
    the most: a single number of the plain form may be right by luck.

    Args:
        actual (Tensor | np.ndarray | Sequence | Mapping): The results, as for :func:`distance`.
        plain (Tensor | np.ndarray | Sequence | Mapping): Those of the plain form, in the same
            precision.
        exact (Tensor | np.ndarray | Sequence | Mapping): Those of the plain form in float64.
        factor (float): How much further off the results may be. Defaults to 4.
    """
    assert all(x.dtype == torch.float64 for _, x in _tensors(exact)), 'exact means float64'
    dtypes = [x.dtype for _, x in _tensors(actual)]
    eps = min(torch.finfo(dtype).eps for dtype in (*dtypes, torch.float32))
    off, by_rounding = distance(actual, exact), distance(plain, exact)
    assert by_rounding < COARSE, f'the plain form is off by {by_rounding:.1e}: nothing is tested'
    bound = factor * by_rounding + FLOOR * eps
    assert off <= bound, f'off by {off:.1e}, and the plain form by {by_rounding:.1e}'


def _tensors(value: Tensors, path: str = '') -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        yield path, torch.as_tensor(value)
        return
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in items:
        yield from _tensors(item, f'{path}.{key}' if path else str(key))
