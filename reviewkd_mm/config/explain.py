"""Say of an error that a library raised at a config which key of the config it is about."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.registry import Registry

from reviewkd_mm.errors import WRONG_SETTING, ConfigError, find_user_error
from reviewkd_mm.utils import did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
LONGEST = 300  # characters of a setting that a message quotes


@contextmanager
def explained(cfg: Mapping | Config, key: str = '', always: bool = False) -> Iterator[None]:
    """Let an error of a library at a config, raised inside the block, name the config's key.

    Errors that this package raises pass as they are.

    Args:
        cfg (Mapping | Config): What is built inside the block.
        key (str): The config key of it. Defaults to ``''``, which means the whole config.
        always (bool): Whether an error that is of no known kind is put into words as well. To be
            used around what builds and does nothing else. Defaults to False.

    Raises:
        ValueError: In place of the library's error.
    """
    try:
        yield
    except Exception as error:  # A library may raise anything at a wrong setting.
        if find_user_error(error) is not None:
            raise
        cfg = cfg._cfg_dict if isinstance(cfg, Config) else cfg
        message = explain(error, cfg, key)
        if message is None and always and _is_of_settings(error):
            message = _describe(error, cfg, key)
        if message is None:
            raise
        raise ConfigError(message) from error


def explain(error: BaseException, cfg: Mapping, key: str = '') -> str | None:
    """Put an error of MMEngine's registries, or of a class that they built, into words.

    Args:
        error (BaseException): The error.
        cfg (Mapping): What was built.
        key (str): The config key of it. Defaults to ``''``.

    Returns:
        str | None: The message, None if the error is of another kind.
    """
    text = str(error.args[0]) if error.args else ''
    if isinstance(error, FileNotFoundError):
        return _describe_missing_file(str(error), cfg, key)
    for pattern, describe in KINDS.items():
        found = re.search(pattern, text, re.DOTALL)
        if found:
            return describe(found, cfg, key)
    return None


def _is_of_settings(error: BaseException) -> bool:
    """Tell an error that a wrong setting may raise from one of the machine."""
    return isinstance(error, WRONG_SETTING) and not isinstance(error, torch.OutOfMemoryError)


def _describe_unknown(found: re.Match, cfg: Mapping, key: str) -> str:
    name, scope, kind = found.groups()
    keys = [path for path, node in walk(cfg, key) if node.get('type') == name]
    where = ', '.join(_join(path, 'type') for path in keys) or _join(key, 'type')
    scopes = _scopes(kind)
    last = name.rpartition('.')[2]
    homes = [home for home, names in scopes.items() if last in names]
    if homes and name == last:
        hint = f"it is in '{homes[0]}': write '{homes[0]}.{name}', or set default_scope to that"
    else:
        hint = did_you_mean(last, sorted({name for names in scopes.values() for name in names}))
    return f"{where}='{name}': there is no such {kind} in '{scope}'; {hint}"


def _describe_no_type(found: re.Match, cfg: Mapping, key: str) -> str:
    lacking = [
        path
        for path, node in walk(cfg, key)
        if 'type' not in node and found[1].startswith(str(node))
    ]
    where = f'{lacking[0]}: ' if lacking and lacking[0] else ''
    return f"{where}the key 'type' is missing, got {_shorten(found[1].partition(chr(10))[0])}"


def _describe_unexpected(found: re.Match, cfg: Mapping, key: str) -> str:
    name, setting = found.groups()
    built = [place for place in _built_as(cfg, key, name) if setting in place[1]]
    built += [place for place in walk(cfg, key) if setting in place[1]]
    cls = _find_class(built[0][1].get('type', name) if built else name)
    where = f'{built[0][0]}: ' if built and built[0][0] else ''
    hint = f'; {did_you_mean(setting, _settings(cls))}' if inspect.isclass(cls) else ''
    given = f'={_shorten(repr(built[0][1][setting]))}' if built else ''
    return f"{where}{name} has no setting '{setting}'{given}{hint}"


def _describe_lacking(found: re.Match, cfg: Mapping, key: str) -> str:
    name, settings = found.groups()
    first = settings.split("'")[1]
    built = [(path, node) for path, node in _built_as(cfg, key, name) if first not in node]
    where = f'{built[0][0]}: ' if built and built[0][0] else ''
    given = f', got {_shorten(repr(dict(built[0][1])))}' if built else ''
    return f'{where}the key {settings} is missing, which {name} needs{given}'


def _describe(error: BaseException, cfg: Mapping, key: str) -> str:
    """Describe an error by the innermost part of the config that was being built."""
    text = f'{type(error).__name__}: {error}' if str(error) else type(error).__name__
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        instance = frame.f_locals.get('self')
        for path, node in _built_as(cfg, key, type(instance).__name__):
            where = f'{path}: ' if path else ''
            return f'{where}expected other settings than {_shorten(repr(dict(node)))} ({text})'
    return f'{key}: {text}' if key else text


def _describe_missing_file(text: str, cfg: Mapping, key: str) -> str | None:
    for path, node in walk(cfg, key):
        for name, value in node.items():
            if isinstance(value, str) and re.search(rf"(^|'){re.escape(value)}('|\s)", text):
                return f"{_join(path, name)}='{value}': there is no such file or folder"
    return None


def _describe_no_inputs(found: re.Match, cfg: Mapping, key: str) -> str:
    return (
        'train_dataloader.dataset.pipeline: a sample has no inputs; expected a pipeline that '
        'loads an image and ends in PackInputs (MMPretrain) or PackDetInputs (MMDetection)'
    )


def _describe_no_image(found: re.Match, cfg: Mapping, key: str) -> str:
    return f"'{found[1]}' is damaged or no image: replace it, or leave it out of the data set"


def _describe_empty_image(found: re.Match, cfg: Mapping, key: str) -> str:
    """Name the first empty files in the folders of the data sets, since OpenCV does not."""
    prefixes = [
        Path(node.get('data_root') or '', prefix)
        for _, node in walk(cfg, key)
        if 'data_root' in node
        for prefix in _names(node.get('data_prefix') or '')
    ]
    files = (file for folder in dict.fromkeys(prefixes) for file in folder.rglob('*.*'))
    empty = (f"'{file}'" for file in files if file.is_file() and not file.stat().st_size)
    names = ', '.join(islice(empty, 3)) or 'its name is not known'
    return f'an image file is empty: {names}'


def _describe_label(found: re.Match, cfg: Mapping, key: str) -> str:
    given = [
        f'{_join(path, "num_classes")}={node["num_classes"]}'
        for path, node in walk(cfg, key)
        if 'num_classes' in node
    ]
    return f'the data has more classes than the model ({found[0]}): {", ".join(given)}'


def _describe_no_files(found: re.Match, cfg: Mapping, key: str) -> str:
    given = [
        f'{_join(path, name)}={node[name]!r}'
        for path, node in walk(cfg, key)
        for name in ('data_root', 'data_prefix')
        if node.get(name)
    ]
    return f'{found[0]}: expected a folder of images for each class, got {", ".join(given)}'


def _names(prefix: Any) -> list[str]:
    return [str(name) for name in prefix.values()] if isinstance(prefix, Mapping) else [prefix]


def walk(node: Any, path: str = '') -> Iterator[tuple[str, Mapping]]:
    """Yield every dict of a config with its dotted key, the outer ones first.

    Args:
        node (Any): A config, or a part of it.
        path (str): Its dotted key. Defaults to ``''``.
    """
    if isinstance(node, Mapping):
        yield path, node
        items = list(node.items())
    elif isinstance(node, (list, tuple)):
        items = list(enumerate(node))
    else:
        return
    for name, child in items:
        yield from walk(child, _join(path, str(name)))


def _built_as(cfg: Mapping, key: str, name: str) -> Iterator[tuple[str, Mapping]]:
    """Yield the dicts of which a class of that name, or one derived from it, is built."""
    for path, node in walk(cfg, key):
        cls = _find_class(node.get('type'))
        if inspect.isclass(cls) and any(base.__name__ == name for base in cls.__mro__):
            yield path, node


def _find_class(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    last = name.rpartition('.')[2]
    for registry in _registries():
        if last in registry.module_dict:
            return registry.module_dict[last]
    return None


def _settings(cls: type) -> list[str]:
    names = [name for base in cls.__mro__ for name in inspect.signature(base.__init__).parameters]
    return [name for name in dict.fromkeys(names) if name not in ('self', 'args', 'kwargs')]


def _registries() -> list[Registry]:
    """Return MMEngine's registries and their children, those of this package first."""
    roots = [found for found in vars(mmengine_registry).values() if isinstance(found, Registry)]
    found = [registry for root in roots for registry in (root, *root.children.values())]
    return sorted(found, key=lambda registry: registry.scope != PACKAGE.name)


def _scopes(kind: str) -> dict[str, list[str]]:
    """Return the names that the registries of a kind know, by scope."""
    found: dict[str, list[str]] = {}
    for root in vars(mmengine_registry).values():
        family = [root, *root.children.values()] if isinstance(root, Registry) else []
        if any(registry.name == kind for registry in family):
            for registry in family:
                found.setdefault(registry.scope, []).extend(registry.module_dict)
    return found


def _join(path: str, name: str) -> str:
    return f'{path}.{name}' if path else name


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f'{text[:LONGEST]} …'


# How messages of libraries look, and what says more.
KINDS = {
    r'(\S+) is not in the (\S+)::(.+?) registry': _describe_unknown,
    r'must contain the key "type", but got (.*)': _describe_no_type,
    r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'": _describe_unexpected,
    r'(\w+)\.__init__\(\) missing \d+ required [^:]*arguments?: (.+)': _describe_lacking,
    r'^inputs$': _describe_no_inputs,
    r'failed to load image: ([^\n]+)': _describe_no_image,
    r'!buf\.empty\(\)': _describe_empty_image,
    r'Found 0 files in subfolders|number of subfolders .* match [^.]*': _describe_no_files,
    r'Target \d+ is out of bounds|Class values must be smaller than num_classes': _describe_label,
}
