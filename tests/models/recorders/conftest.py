"""What is recorded is compared with what is computed anew, in double precision."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _in_float64(in_float64: None) -> None:
    return
