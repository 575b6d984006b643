"""Run a tool in the process of the tests, which has imported already what takes a tool long."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def run_tool(name: str, *args: str | Path) -> None:
    """Run a tool as its command line does.

    Args:
        name (str): Its path below ``tools``.
        args (str | Path): What follows it.

    Raises:
        SystemExit: If it ends with a status or a message.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [Path(name).name, *map(str, args)])
        patch.setattr(sys, 'path', [*sys.path])
        patch.setenv('LOCAL_RANK', '0')
        runpy.run_path(str(TOOLS / name), run_name='__main__')
