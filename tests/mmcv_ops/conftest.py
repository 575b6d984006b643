"""The stand-in under ``mmcv.ops`` for one test.

Nothing here assumes that the compiled ops are missing.
"""

from __future__ import annotations

from reviewkd_mm import mmcv_ops  # isort: skip  before anything that imports mmcv.ops

import sys
from collections.abc import Callable
from types import ModuleType

import mmcv.ops
import pytest
import torch

DEVICES = ['cpu', *(['cuda'] if torch.cuda.is_available() else [])]


@pytest.fixture
def put_under_mmcv(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], None]:
    """A function that makes a module the extension of MMCV until the test ends."""

    def put(ext: ModuleType) -> None:
        monkeypatch.setitem(sys.modules, 'mmcv._ext', ext)
        monkeypatch.setattr(mmcv, '_ext', ext, raising=False)
        for name, module in list(sys.modules.items()):
            if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module'):
                monkeypatch.setattr(module, 'ext_module', ext)

    return put


@pytest.fixture
def stand_in(put_under_mmcv: Callable[[ModuleType], None]) -> mmcv_ops.StandIn:
    """The stand-in, in use under ``mmcv.ops``."""
    ext = mmcv_ops.StandIn()
    put_under_mmcv(ext)
    return ext


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param
