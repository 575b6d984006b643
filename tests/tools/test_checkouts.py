"""A tool uses the package of its checkout, an installed tool the installed package."""

from __future__ import annotations

import runpy
import shutil
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tests.tools.in_process import TOOLS

ROOT = TOOLS.parent
# What touches no path is imported by another tool.
STARTED = sorted(file for file in TOOLS.rglob('*.py') if 'sys.path' in file.read_text('utf-8'))


class Found(Exception):  # noqa: N818  it is no error
    """Where Python found the package."""


class Finder:
    """Stop the import of the package where it is found."""

    def find_spec(self, name: str, *args: object) -> None:
        if name == 'reviewkd_mm':
            raise Found(PathFinder.find_spec(name).origin)


@pytest.fixture
def package_of(monkeypatch):
    """Start a tool as Python does; return the path of the package that it imports first."""

    def start(tool: Path, *elsewhere: Path) -> Path:
        for name in [name for name in sys.modules if name.partition('.')[0] == 'reviewkd_mm']:
            monkeypatch.delitem(sys.modules, name)
        others = [path for path in sys.path if path and Path(path).resolve() != ROOT]
        monkeypatch.setattr(sys, 'path', [str(tool.parent), *map(str, elsewhere), *others])
        monkeypatch.setattr(sys, 'meta_path', [Finder(), *sys.meta_path])
        with pytest.raises(Found) as found:
            runpy.run_path(str(tool), run_name='__main__')
        return Path(str(found.value)).parent

    return start


@pytest.mark.parametrize('tool', STARTED, ids=lambda tool: str(tool.relative_to(TOOLS)))
def test_a_tool_uses_the_package_beside_it(tool, tmp_path, package_of):
    (tmp_path / 'reviewkd_mm').mkdir()
    (tmp_path / 'reviewkd_mm' / '__init__.py').touch()

    assert package_of(tool, tmp_path) == ROOT / 'reviewkd_mm'


def test_an_installed_tool_uses_the_installed_package(tmp_path, package_of):
    tool = tmp_path / 'reviewkd_mm' / '.mim' / 'tools' / 'train.py'
    tool.parent.mkdir(parents=True)
    shutil.copy(TOOLS / 'train.py', tool)

    assert package_of(tool, ROOT) == ROOT / 'reviewkd_mm'
