"""Skip tests where an ONNX file cannot be written."""

from __future__ import annotations

import pytest

from reviewkd_mm.export.onnx import check_packages


def skip_without_onnx() -> None:
    """Skip the test, with what is missing as the reason."""
    try:
        check_packages()
    except ImportError as error:
        pytest.skip(str(error))
