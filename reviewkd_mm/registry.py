"""The registries of reviewkd_mm: a child of every MMEngine root registry, all in this file."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from mmengine import registry as root
from mmengine.registry import DefaultScope

SCOPE = 'reviewkd_mm'


class Registry(root.Registry):
    """A registry that also finds what the enclosing default scope knows.

    MMEngine stamps ``_scope_='reviewkd_mm'`` on every dict that a config inherits from a
    ``_base_ = 'reviewkd_mm::...'``, so bare names of MMDetection or MMPretrain that such a file
    uses are looked up here. A bare name is searched in reviewkd_mm, then in the innermost
    default scope that is not reviewkd_mm (and so in MMEngine, its parent), then in MMEngine.

    The enclosing scope comes before MMEngine because it would have come first without the
    stamp: ``RandomFlip`` in an MMDetection config is MMDetection's, not MMCV's.

    Args:
        name (str): Name of the registry.
        parent (mmengine.Registry): The MMEngine root registry that this one is a child of.
        locations (list[str], optional): Modules to import before the first look-up. Defaults
            to None, which means that the package alone is imported.

    Examples:
        >>> from reviewkd_mm.registry import MODELS
        >>> MODELS.build(dict(type='HCLLoss', loss_weight=5.0))
    """

    def __init__(
        self, name: str, parent: root.Registry, locations: list[str] | None = None
    ) -> None:
        # Without any location MMEngine would look for `reviewkd_mm.utils.register_all_modules`.
        super().__init__(name, parent=parent, scope=SCOPE, locations=locations or [SCOPE])

    def get(self, key: str) -> type | None:
        """Return the class registered as ``key``.

        Args:
            key (str): A bare name (``'HCLLoss'``) or one with a scope (``'mmdet.ResNet'``).

        Returns:
            type | None: The class, or None where nothing of that name is registered.
        """
        if '.' in key:
            return super().get(key)
        self.import_from_location()
        if key in self.module_dict:
            return self.module_dict[key]
        return self._enclosing_registry().get(key)

    def _enclosing_registry(self) -> root.Registry:
        """Return the registry of the innermost default scope that is not ours, else MMEngine's."""
        # MMEngine offers the innermost scope only; the ones around it are in this dict.
        scopes = (scope.scope_name for scope in reversed(DefaultScope._instance_dict.values()))
        enclosing = next((scope for scope in scopes if scope != SCOPE), self.root.scope)
        with self.root.switch_scope_and_registry(enclosing) as registry:
            return registry


def scope_of(name: object) -> str | None:
    """Return the scope in the name of a class: ``'mmdet'`` of ``'mmdet.RetinaNet'``.

    Args:
        name (object): What a config has as ``type``.

    Returns:
        str | None: The scope; None where there is none, or no package of that name.
    """
    if not isinstance(name, str):
        return None
    scope, _ = root.Registry.split_scope_key(name)
    is_scope = scope is not None and find_spec(scope) and find_spec(f'{scope}.registry')
    return scope if is_scope else None


def look_up(registry: root.Registry, name: Any) -> Any:
    """Find what the ``type`` of a config names.

    Args:
        registry (mmengine.Registry): Where it is looked for.
        name (Any): The ``type``. What is no name is a class itself.

    Returns:
        Any: The class, or a function in its place; None if there is none.
    """
    if not isinstance(name, str):
        return name
    try:
        return registry.get(name)
    except RuntimeError:  # MMEngine's answer to a name that nothing knows
        return None


RUNNERS = Registry('runner', root.RUNNERS)
RUNNER_CONSTRUCTORS = Registry('runner constructor', root.RUNNER_CONSTRUCTORS)
LOOPS = Registry('loop', root.LOOPS)
HOOKS = Registry('hook', root.HOOKS, ['reviewkd_mm.engine.hooks', 'reviewkd_mm.export'])
STRATEGIES = Registry('strategy', root.STRATEGIES)

DATASETS = Registry('dataset', root.DATASETS, ['reviewkd_mm.datasets'])
DATA_SAMPLERS = Registry('data sampler', root.DATA_SAMPLERS)
TRANSFORMS = Registry('transform', root.TRANSFORMS)

MODELS = Registry('model', root.MODELS, ['reviewkd_mm.models'])
MODEL_WRAPPERS = Registry('model wrapper', root.MODEL_WRAPPERS)
WEIGHT_INITIALIZERS = Registry('weight initializer', root.WEIGHT_INITIALIZERS)

OPTIMIZERS = Registry('optimizer', root.OPTIMIZERS)
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper', root.OPTIM_WRAPPERS, ['reviewkd_mm.engine.optimizers']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    root.OPTIM_WRAPPER_CONSTRUCTORS,
    ['reviewkd_mm.engine.optimizers'],
)
PARAM_SCHEDULERS = Registry('parameter scheduler', root.PARAM_SCHEDULERS)

METRICS = Registry('metric', root.METRICS)
EVALUATOR = Registry('evaluator', root.EVALUATOR)
TASK_UTILS = Registry('task util', root.TASK_UTILS)

VISUALIZERS = Registry('visualizer', root.VISUALIZERS)
VISBACKENDS = Registry('visualizer backend', root.VISBACKENDS)
LOG_PROCESSORS = Registry('log processor', root.LOG_PROCESSORS)
INFERENCERS = Registry('inferencer', root.INFERENCERS)
FUNCTIONS = Registry('function', root.FUNCTIONS)
