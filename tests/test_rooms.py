"""Imports run downwards: no room of the package knows of one above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import reviewkd_mm

PACKAGE = Path(reviewkd_mm.__file__).parent
FLOORS = (
    ('version', 'version_check', 'mmcv_ops', 'registry', 'errors', 'utils'),
    ('datasets', 'files', 'config'),
    ('models',),
    ('engine',),
    ('export', 'runs', 'inference'),
    ('checks',),
    ('cli',),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imported_rooms(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{file}: a relative import'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        for name in names:
            package, *path = name.split('.')
            if package == PACKAGE.name and path and path[0] != '__version__':
                yield path[0]


def test_no_import_runs_upwards():
    upwards = [
        f'{path.relative_to(PACKAGE)} imports {room}'
        for path in PACKAGE.rglob('*.py')
        if path.parent != PACKAGE or path.stem != '__init__'
        if '.mim' not in path.parts
        for room in imported_rooms(path)
        if FLOOR_OF[room] > FLOOR_OF[path.relative_to(PACKAGE).parts[0].removesuffix('.py')]
    ]

    assert not upwards
