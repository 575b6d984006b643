"""Config files: where they lie, and how one is read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from reviewkd_mm.config.coco_data import resolve_coco_data
from reviewkd_mm.config.parts import PRETRAINED, walk
from reviewkd_mm.errors import ConfigError
from reviewkd_mm.registry import SCOPE
from reviewkd_mm.version_check import how_to_install

PACKAGE = Path(__file__).resolve().parents[1]
# A checkout has its configs beside the package, an install below it.
CONFIG_FOLDERS = (PACKAGE.parent / 'configs', PACKAGE / '.mim' / 'configs')


def read_config(file: str | Path) -> Config:
    """Read a config file, its setting ``coco_data`` resolved.

    Args:
        file (str | Path): Path of the file.

    Returns:
        Config: The config, as the Runner takes it.
    """
    return resolve_coco_data(resolve_paths(parse_config(file)))


def parse_config(file: str | Path) -> Config:
    """Read a config file as it is.

    Args:
        file (str | Path): Path of the file.

    Returns:
        Config: The config.

    Raises:
        ValueError: If the file, or one of its ``_base_``, cannot be parsed, or a package of one is
            not installed; the message says how to install it.
    """
    try:
        return Config.fromfile(file)
    except (SyntaxError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"'{file}' is no valid config: {type(error).__name__}: {error}"
        ) from error
    except ModuleNotFoundError as error:
        missing = re.match(r'(\w+) is not installed', str(error))  # of a _base_, says MMEngine
        if missing is None:
            raise
        raise ConfigError(
            f"{file}: its _base_ needs the package '{missing[1]}', which is not installed"
            f'{how_to_install(missing[1])}'
        ) from error


def resolve_paths(cfg: Config) -> Config:
    """Look for models and weights of a relative path beside the config file too.

    Args:
        cfg (Config): The config, changed in place. What is in the working folder, or in neither,
            stays as it is.

    Returns:
        Config: The config.
    """
    model = cfg.get('model')
    if cfg.filename is None or not isinstance(model, Mapping):
        return cfg
    folder = Path(cfg.filename).absolute().parent
    places = [(model, key) for key in ('student', 'teacher', 'teacher_ckpt')]
    for _, part in [('', model), *walk(model, '')]:
        if isinstance(part, Mapping) and part.get('type') in PRETRAINED:
            places.append((part, 'checkpoint'))
    for part, key in places:
        path = part.get(key)
        if isinstance(path, str) and not Path(path).exists() and (folder / path).is_file():
            part[key] = str(folder / path)
    return cfg


def config_root(package: str) -> Path:
    """Return the folder that holds a package's configs.

    Args:
        package (str): Name of an installed package, or ``'reviewkd_mm'``, whose configs lie
            beside the package in a plain checkout.

    Returns:
        Path: The folder.
    """
    folder = Path(find_spec(package).origin).parent
    installed = folder / '.mim' / 'configs'
    if package == SCOPE and not installed.exists():
        return folder.parent / 'configs'
    return installed
