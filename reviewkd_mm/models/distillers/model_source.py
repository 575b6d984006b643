"""Build a student or a teacher from what a config says of it: a dict, a config path, a module."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.config.utils import _get_cfg_metainfo
from mmengine.registry import DefaultScope
from torch import nn

from reviewkd_mm.config import is_distiller, read_config
from reviewkd_mm.config.built_parts import check_model
from reviewkd_mm.config.files import config_root
from reviewkd_mm.errors import ConfigError, MissingFileError, config_key
from reviewkd_mm.models.distillers.checkpoint import looked_in
from reviewkd_mm.registry import MODELS
from reviewkd_mm.utils import did_you_mean
from reviewkd_mm.version_check import how_to_install

# Of a model's config what is a module, and so a dict.
PARTS = ('data_preprocessor', 'backbone', 'neck', 'head', 'bbox_head', 'rpn_head', 'roi_head')


@dataclass
class ModelSource:
    """A model config with what else its file says.

    Args:
        cfg (dict): The model's config.
        scope (str, optional): Default scope in which it is built. Defaults to None, which means
            the current one.
        checkpoint (str, optional): The checkpoint that the file's metafile names. Defaults to
            None.
    """

    cfg: dict
    scope: str | None = None
    checkpoint: str | None = None

    @property
    def build_scope(self) -> str | None:
        """Where the whole model is built: its config says, else its type's name, else its file."""
        return self.cfg.get('_scope_') or _prefix(self.cfg.get('type')) or self.scope

    def build(self, role: str = 'model') -> nn.Module:
        """Build the model, wholly in its scope.

        Args:
            role (str): The config key, such as ``'teacher'``, for error messages. Defaults to
                ``'model'``.

        Returns:
            nn.Module: The model.

        Raises:
            ValueError: If a part of the config is not what its class expects.
        """
        for name, part in self.cfg.items():
            if name in PARTS and not isinstance(part, (Mapping, list, tuple, type(None))):
                raise ConfigError(f"{role}.{name}={part!r}: expected a dict with the key 'type'")
        # Detectors read their settings as attributes, which a plain dict has not.
        cfg = ConfigDict(copy.deepcopy(self.cfg))
        with MODELS.root.switch_scope_and_registry(self.build_scope) as registry:
            check_model(self.cfg, role)
            with config_key(role):
                return registry.build(cfg)


def read_source(role: str, value: Mapping | str | Path) -> ModelSource:
    """Read a student or teacher as a config gives it.

    A path brings its file's model, its top-level data_preprocessor and default scope, and the
    checkpoint of its metafile. Of a distiller's config it is the student.

    Args:
        role (str): The config key, ``'student'`` or ``'teacher'``, for error messages.
        value (dict | str | Path): A model config, ``'pkg::path'``, or the path of a file.

    Returns:
        ModelSource: The config and what its file says of it.

    Raises:
        TypeError: If the value is none of these.
        ValueError: If a config has no model, or no type.
        FileNotFoundError: If there is no such config file, with the nearest that exist.
        ImportError: If the package of a ``pkg::path`` is not installed.
    """
    if isinstance(value, Mapping):
        if 'type' not in value:
            raise ConfigError(
                f"{role}: expected a model config with the key 'type', got {value!r}"
            )
        return ModelSource(copy.deepcopy(dict(value)))
    if not isinstance(value, (str, Path)):
        raise ConfigError(
            f'{role}={value!r}: expected a model config, a config path or a module, got '
            f'{type(value).__name__}'
        )
    cfg, checkpoint = _read_file(role, str(value))
    if 'model' not in cfg:
        raise ConfigError(f"{role}='{value}': this config file has no 'model'")
    return student_source(cfg, checkpoint)


def student_source(cfg: Config, checkpoint: str | None = None) -> ModelSource:
    """Return the model that a training config leaves behind: the student of a distiller.

    Args:
        cfg (Config): A training config, of a distiller or of an ordinary model.
        checkpoint (str, optional): The checkpoint that belongs to it. Defaults to None.

    Returns:
        ModelSource: The student's config, its data_preprocessor included.
    """
    model = copy.deepcopy(dict(cfg.model))
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', copy.deepcopy(cfg.data_preprocessor))
    source = ModelSource(model, cfg.get('default_scope'), checkpoint)
    if not is_distiller(model):
        return source
    student = read_source('student', model['student'])
    preprocessor = model.get('data_preprocessor')
    if preprocessor is not None:
        student.cfg.setdefault('data_preprocessor', copy.deepcopy(preprocessor))
    student.scope = student.scope or source.scope
    # Its own file's, if any, is the one of the student alone.
    student.checkpoint = checkpoint
    return student


def _prefix(model_type: object) -> str | None:
    """Return the scope in a type's name: ``'mmdet'`` of ``'mmdet.RetinaNet'``."""
    if not isinstance(model_type, str):
        return None
    scope, _ = MODELS.split_scope_key(model_type)
    is_scope = scope is not None and find_spec(scope) and find_spec(f'{scope}.registry')
    return scope if is_scope else None


def _read_file(role: str, path: str) -> tuple[Config, str | None]:
    package, separator, name = path.partition('::')
    if not separator:
        _check_exists(role, path, Path(path))
        with config_key(f"{role}='{path}'", (ValueError,)):
            return read_config(path), None
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # A folder that happens to be importable has none.
        raise ConfigError(
            f"{role}='{path}': the package '{package}' is not installed{how_to_install(package)}"
        )
    file = config_root(package) / name
    _check_exists(role, path, file)
    with DefaultScope.overwrite_default_scope(package):
        return read_config(file), _metafile_checkpoint(package, name)


def _metafile_checkpoint(package: str, name: str) -> str | None:
    package_path = str(config_root(package).parents[1])
    try:
        with warnings.catch_warnings():
            # It warns of every model in the index that has no config, whichever is asked for.
            warnings.simplefilter('ignore')
            return _get_cfg_metainfo(package_path, name).get('Weights')
    except (ValueError, FileNotFoundError):  # MMEngine's answer where no metafile lists it.
        return None


def _check_exists(role: str, value: str, file: Path) -> None:
    if file.is_file():
        return
    folder = file.absolute().parent
    if folder.is_dir():
        hint = did_you_mean(file.name, [path.name for path in folder.glob('*.py')])
    else:
        folders = [path.name for path in folder.parent.glob('*') if path.is_dir()]
        hint = did_you_mean(folder.name, folders)
    where = '' if '::' in value else looked_in(Path(value))
    raise MissingFileError(f"{role}='{value}': there is no such config file{where}; {hint}")
