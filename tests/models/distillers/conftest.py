"""Keep what runners leave behind in MMEngine's globals out of the next test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.models.distillers.helpers import mmengine_state


@pytest.fixture(autouse=True)
def _clean_mmengine() -> Iterator[None]:
    with mmengine_state():
        yield
