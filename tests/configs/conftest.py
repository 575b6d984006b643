"""Reading the configs of the repository without reading the zoos' indexes again and again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from mmengine.fileio import load


@pytest.fixture(scope='package', autouse=True)
def _read_a_metafile_once() -> Iterator[None]:
    """MMEngine reads every metafile of a package for each config that it takes from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.utils.load', cache(load))
        yield
