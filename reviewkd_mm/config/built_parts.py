"""Check the parts of a config that registries build, before anything is built.

A part is a dict with the key ``type``. What is not certain to be wrong passes: the library that
builds the part has the last word.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from torch.utils.data import DataLoader

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.registry import SCOPE, look_up, scope_of
from reviewkd_mm.utils import did_you_mean

# Which registry builds what is under a key: in a model, ...
IN_MODEL = {
    **dict.fromkeys(('student', 'teacher', 'connector', 'data_preprocessor'), root.MODELS),
    **dict.fromkeys(('backbone', 'neck', 'head', 'loss'), root.MODELS),
    **dict.fromkeys(('bbox_head', 'mask_head', 'roi_head', 'rpn_head'), root.MODELS),
    **dict.fromkeys(('auxiliary_head', 'decode_head'), root.MODELS),
    **dict.fromkeys(('norm_cfg', 'conv_cfg', 'act_cfg'), root.MODELS),
    **dict.fromkeys(('anchor_generator', 'assigner', 'bbox_coder'), root.TASK_UTILS),
}
# What is looked up there and built by MMCV, which takes settings out and adds some.
LOOKED_UP = ('norm_cfg', 'conv_cfg', 'act_cfg')
# ... elsewhere, ...
ELSEWHERE = {
    'dataset': root.DATASETS,
    'datasets': root.DATASETS,
    'pipeline': root.TRANSFORMS,
    'sampler': root.DATA_SAMPLERS,
    'batch_sampler': root.DATA_SAMPLERS,
    'collate_fn': root.FUNCTIONS,
    'optimizer': root.OPTIMIZERS,
    'metrics': root.METRICS,
    'vis_backends': root.VISBACKENDS,
}
# ... and at the top of a config.
AT_TOP = {
    'model_wrapper_cfg': root.MODEL_WRAPPERS,
    'train_dataloader': None,
    'val_dataloader': None,
    'val_evaluator': root.METRICS,
    'train_cfg': root.LOOPS,
    'val_cfg': root.LOOPS,
    'optim_wrapper': root.OPTIM_WRAPPERS,
    'param_scheduler': root.PARAM_SCHEDULERS,
    'custom_hooks': root.HOOKS,
    'visualizer': root.VISUALIZERS,
    'log_processor': root.LOG_PROCESSORS,
}
# The classes of parts that may lack a type, and what is taken out of a part before it is built.
DEFAULT_TYPES = {
    'val_cfg': 'ValLoop',
    'optim_wrapper': 'OptimWrapper',
    'visualizer': 'Visualizer',
    'log_processor': 'LogProcessor',
}
TAKEN_OUT = {
    root.HOOKS: ('priority',),
    root.OPTIM_WRAPPERS: ('constructor', 'student_constructor', 'paramwise_cfg'),
    root.PARAM_SCHEDULERS: ('convert_to_iter_based',),
}
MAY_LACK_TYPE = ('data_preprocessor', *LOOKED_UP)
# What is built of its config alone: a setting without a default must be there.
NOTHING_ADDED = (root.DATASETS, root.TRANSFORMS, root.HOOKS, root.METRICS)
SCOPES = (SCOPE, 'mmpretrain', 'mmdet', 'mmseg')
# Whose classes give the keys above the meaning that they have here.
PACKAGES = (*SCOPES, 'mmengine', 'mmcv', 'torch')


def check_built_parts(cfg: Config) -> None:
    """Check that the classes of a training exist and have the settings that they are given.

    Args:
        cfg (Config): The config, as the Runner takes it.

    Raises:
        ValueError: If a class does not exist or lacks a setting, with the nearest there are.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        check_model(cfg.get('model'), 'model')
        for key, part, registry in _parts_at_top(cfg):
            _check(part, key, registry, ELSEWHERE)
    of_loader = {*inspect.signature(DataLoader).parameters, 'num_batch_per_epoch'}
    for key in ('train_dataloader', 'val_dataloader'):
        _check_settings(cfg.get(key) or {}, key, 'a dataloader', of_loader)


def check_model(model: Any, key: str) -> None:
    """Check the classes of a model, in the scope that is the default now.

    Args:
        model (Any): The model's config.
        key (str): The config key of it.

    Raises:
        ValueError: If a class does not exist or lacks a setting, with the nearest there are.
    """
    _check(model, key, root.MODELS, IN_MODEL)


def _parts_at_top(cfg: Config) -> Iterator[tuple[str, Any, Registry | None]]:
    """Yield key, part and registry of what the Runner builds, as it builds it."""
    for key, registry in AT_TOP.items():
        part = cfg.get(key)
        if key == 'optim_wrapper' and 'strategy' in cfg:
            continue  # which may bring optimizers of its own
        if isinstance(part, Mapping) and 'type' not in part:
            if 'metrics' in part:
                part = {'type': 'Evaluator', **part}
            elif key == 'train_cfg' and 'by_epoch' in part:
                kind = 'EpochBasedTrainLoop' if part['by_epoch'] else 'IterBasedTrainLoop'
                part = {'type': kind, **{k: v for k, v in part.items() if k != 'by_epoch'}}
            elif key in DEFAULT_TYPES:
                part = {'type': DEFAULT_TYPES[key], **part}
        is_evaluator = isinstance(part, Mapping) and 'metrics' in part
        yield key, part, root.EVALUATOR if is_evaluator else registry
    for name, hook in (cfg.get('default_hooks') or {}).items():
        yield f'default_hooks.{name}', hook, root.HOOKS


def _check(
    node: Any,
    key: str,
    registry: Registry | None,
    below: Mapping[str, Registry],
    is_built: bool = True,
) -> None:
    if isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            _check(child, f'{key}.{index}', registry, below, is_built)
    if not isinstance(node, Mapping):
        return
    with DefaultScope.overwrite_default_scope(node.get('_scope_')):
        if registry is not None and ('type' in node or is_built):
            _check_part(node, key, registry)
        if not _has_known_parts(node, registry):
            return
        # What is in a dict of no type may be read by somebody else.
        is_built = 'type' in node or below is ELSEWHERE
        for name, child in node.items():
            with DefaultScope.overwrite_default_scope(_scope_below(node, name)):
                _check(child, f'{key}.{name}', below.get(name), below, is_built)


def _has_known_parts(node: Mapping, registry: Registry | None) -> bool:
    """Tell whether the keys of a part mean what they usually do."""
    if 'constructor' in node:  # It may take settings out of the optimizer.
        return False
    if registry is None or 'type' not in node:
        return True
    module = getattr(find_class(node['type'], registry), '__module__', '')
    return module.partition('.')[0] in PACKAGES


def _scope_below(node: Mapping, name: str) -> str | None:
    """Return the scope in which a distiller builds a part of itself, None for the current one."""
    if 'transfers' not in node:
        return None
    if name in ('student', 'teacher') and isinstance(node[name], Mapping):
        return scope_of(node[name].get('type'))
    return SCOPE if name == 'transfers' else None


def _check_part(node: Mapping, key: str, registry: Registry) -> None:
    last = key.rpartition('.')[2]
    if 'type' not in node:
        if last in MAY_LACK_TYPE:
            return
        raise ConfigError(f"{key}: the key 'type' is missing, got {dict(node)}")
    name = node['type']
    if not (isinstance(name, str) or callable(name)):
        raise ConfigError(f'{key}.type={name!r}: expected the name of a class')
    found = find_class(name, registry)
    if found is None:
        raise ConfigError(f"{key}.type='{name}': {_describe_unknown(name, registry)}")
    known = find_settings(found)
    if last in LOOKED_UP:
        return
    if known is not None:
        _check_settings(node, key, name, {*known, *TAKEN_OUT.get(registry, ())})
    if key != 'model' and (known is None or registry not in NOTHING_ADDED):
        return
    lacking = [needed for needed in _needs(found) if needed not in node]
    if lacking:
        raise ConfigError(f"{key}: the key '{lacking[0]}' is missing, which {name} needs")


def find_class(name: Any, registry: Registry) -> Any:
    """Find what a ``type`` of a config names, in the scope that is the default now.

    Args:
        name (Any): The ``type``. What is no name is a class itself.
        registry (Registry): MMEngine's registry of its kind.

    Returns:
        Any: The class, or a function in its place; None if there is none.
    """
    return look_up(_in_scope(registry, _current_scope()), name)


def _current_scope() -> str:
    current = DefaultScope.get_current_instance()
    return current.scope_name if current else 'mmengine'


def _in_scope(registry: Registry, scope: str) -> Registry:
    """Return the registry of a scope, as MMEngine does, which warns where there is none."""
    with suppress(ImportError):
        import_module(f'{scope}.registry')
    return registry.children.get(scope, registry)


def _check_settings(node: Mapping, key: str, owner: Any, known: set[str]) -> None:
    for name, value in node.items():
        if name not in known and name not in ('type', '_scope_'):
            owner = getattr(owner, '__name__', owner)
            raise ConfigError(
                f"{key}: {owner} has no setting '{name}'={value!r}; "
                f'{did_you_mean(name, sorted(known))}'
            )


def _describe_unknown(name: str, registry: Registry) -> str:
    for scope in SCOPES:
        with suppress(ImportError):
            _in_scope(registry, scope).import_from_location()
    names = {child.scope: child.module_dict for child in (registry, *registry.children.values())}
    last = name.rpartition('.')[2]
    homes = [home for home in names if last in names[home]]
    if homes:
        hint = f"it is in '{homes[0]}': write '{homes[0]}.{last}'"
        hint += ', or set default_scope to that' if last == name else ''
    else:
        hint = did_you_mean(last, sorted({name for known in names.values() for name in known}))
    return f"there is no such {registry.name} in '{_current_scope()}'; {hint}"


def find_settings(built: Any) -> set[str] | None:
    """Find the names of all settings that a class takes.

    Args:
        built (Any): A class, or a function that is called instead of one.

    Returns:
        set[str] | None: The names; None where some may not be known.
    """
    if inspect.isfunction(built):
        names, catch_all = _parameters(built)
        return names if catch_all is None else None
    if not inspect.isclass(built) or type(built).__call__ is not type.__call__:
        return None
    settings: set[str] = set()
    for base in built.__mro__[:-1]:
        if '__new__' in vars(base):
            return None
        if '__init__' not in vars(base):
            continue
        init = vars(base)['__init__']
        # A wrapper may take names that what it wraps does not.
        if not inspect.isfunction(init) or hasattr(init, '__wrapped__'):
            return None
        names, catch_all = _parameters(init)
        settings |= names
        if catch_all is None:
            return settings
        if not _passes_on(init, catch_all, base.__name__):
            return None
    return settings


def _parameters(function: Callable) -> tuple[set[str], str | None]:
    """Return the names that a function takes, and that of its ``**kwargs``."""
    parameters = inspect.signature(function).parameters.values()
    names = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return names - {'self'}, next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)


def _needs(built: Callable) -> list[str]:
    parameters = inspect.signature(built).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable]


def _passes_on(init: Callable, catch_all: str, name: str) -> bool:
    """Tell whether ``**kwargs`` go to the ``__init__`` of the base class and nowhere else."""
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(init)))))
    except (OSError, SyntaxError):
        return False
    base_init = ('super().__init__', f'super({name}, self).__init__')
    calls = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) in base_init]
    passed = [k for call in calls for k in call.keywords if k.arg is None]
    passed = [k for k in passed if ast.unparse(k.value) == catch_all]
    used = [n for n in nodes if isinstance(n, ast.Name) and n.id == catch_all]
    return len(passed) == len(used) > 0
