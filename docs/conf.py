"""Sphinx settings: `sphinx-build -W docs docs/_build` with requirements/docs.txt installed."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = 'reviewkd_mm'
release = runpy.run_path(str(ROOT / 'reviewkd_mm' / 'version.py'))['__version__']
extensions = ['myst_parser']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'{project} {release}'
# Headings can be linked to, down to this level.
myst_heading_anchors = 3
