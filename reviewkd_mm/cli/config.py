"""Reading a config file and the --cfg-options that change it."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from reviewkd_mm.config.coco_data import SETTING, resolve_coco_data
from reviewkd_mm.config.files import CONFIG_FOLDERS, parse_config, resolve_paths
from reviewkd_mm.config.parts import walk
from reviewkd_mm.errors import ConfigError, MissingFileError

# The top-level keys that have an effect: the Runner's arguments, what it reads by itself, ours.
RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    SETTING,
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
} - {'self', 'cfg'}


def load_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config file and merge options into it.

    An option that can have no effect, or that looks misspelt, gets one line of warning.

    Args:
        path (str): Path of the config file.
        options (dict | None): Values by dotted key, as ``--cfg-options`` gives them. Defaults to
            None.

    Returns:
        Config: The config.

    Raises:
        FileNotFoundError: If there is no such file; the message names the nearest ones.
        ValueError: If an option sets a key of something that is no dict.
    """
    if not Path(path).is_file():
        raise MissingFileError(f'config={path!r}: {_describe_missing(Path(path))}')
    cfg = parse_config(path)
    for key in options or ():
        doubt = _find_doubt(cfg, key)
        if doubt and os.environ.get('RANK', '0') == '0':
            print(f'warning: --cfg-options {key}: {doubt}', file=sys.stderr)
    cfg.merge_from_dict(options or {})
    resolve_paths(cfg)
    return resolve_coco_data(cfg)


def _describe_missing(path: Path) -> str:
    folders = [folder for folder in CONFIG_FOLDERS if folder.is_dir()]
    known = {file for folder in folders for file in folder.rglob('*.py')}
    known = {file for file in known if '_base_' not in file.parts}
    if path.parent.is_dir():
        known.update(path.parent.glob('*.py'))
    stems = difflib.get_close_matches(path.stem, {file.stem for file in known}, n=3, cutoff=0.5)
    near = [file for stem in stems for file in sorted(known) if file.stem == stem][:3]
    what = 'is a folder' if path.is_dir() else 'no such file'
    if not near:
        return f'{what}; the configs are in {", ".join(map(_shorten, folders)) or "no folder"}'
    return f'{what}; the nearest are {", ".join(map(_shorten, near))}'


def _shorten(path: Path) -> str:
    """Return the path from the current directory where it is below it."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _find_doubt(cfg: Config, key: str) -> str | None:
    """Say why an option probably does not do what it was given for, or return None."""
    top, *rest = key.split('.')
    if top not in RUNNER_KEYS and top not in cfg:
        return f'there is no {top!r}, and the Runner reads none' + _suggest(
            _near(top, RUNNER_KEYS)
        )
    if top not in RUNNER_KEYS:
        copies = ['.'.join([path, *rest]) for path in _find_copies(cfg, cfg[top])]
        return f'{top} is a variable of the file, whose copies stay as they are' + _suggest(copies)
    if top not in cfg:
        return None
    node = cfg[top]
    for depth, name in enumerate(rest, start=1):
        parent = '.'.join(key.split('.')[:depth])
        if isinstance(node, (list, tuple)):
            if not (name.isdigit() and int(name) < len(node)):
                return None  # MMEngine refuses it
            node = node[int(name)]
            continue
        if not isinstance(node, dict):
            raise ConfigError(f'--cfg-options {key}: {parent} is {node!r}: expected a dict there')
        if name not in node:
            return _doubt_new_key(node, parent, name, is_last=depth == len(rest))
        node = node[name]
    return None


def _doubt_new_key(node: dict, parent: str, name: str, is_last: bool) -> str | None:
    """Doubt a key that its dict lacks: a new last one is usual, unless it looks misspelt."""
    near = _near(name, node, cutoff=0.8 if is_last else 0.6)
    if is_last and not near:
        return None
    return f'{parent} has no {name!r} yet' + _suggest([f'{parent}.{key}' for key in near])


def _near(name: str, known: Any, cutoff: float = 0.6) -> list[str]:
    return difflib.get_close_matches(name, [str(key) for key in known], n=3, cutoff=cutoff)


def _suggest(names: list[str]) -> str:
    return f'; did you mean {" or ".join(names)}?' if names else ''


def _find_copies(cfg: Config, value: Any, limit: int = 3) -> list[str]:
    """Return dotted keys, of those that the Runner reads, that have this value."""
    found = (
        path
        for top in cfg
        if top in RUNNER_KEYS
        for path, node in walk(cfg[top], top)
        if node == value
    )
    return list(islice(found, limit))
