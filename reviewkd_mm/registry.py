"""The registries of reviewkd_mm: a child of every MMEngine root registry, all in this file."""

from __future__ import annotations

from importlib import import_module

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
        locations (list[str]): Modules to import before the first look-up.

    Examples:
        >>> from reviewkd_mm.registry import MODELS
        >>> MODELS.build(dict(type='HCLLoss', loss_weight=5.0))
    """

    def __init__(
        self, name: str, parent: root.Registry, locations: list[str] | None = None
    ) -> None:
        super().__init__(name, parent=parent, scope=SCOPE, locations=locations or [SCOPE])

    def get(self, key: str) -> type | None:
        """Return the class registered as ``key``.

        Args:
            key (str): A bare name (``'HCLLoss'``) or one with a scope (``'mmdet.ResNet'``).

        Returns:
            type | None: The class, or None where nothing of that name is registered.
        """
        scope, name = self.split_scope_key(key)
        if scope is not None:
            return super().get(key)
        self.import_from_location()
        if name in self.module_dict:
            return self.module_dict[name]
        enclosing = self._enclosing_registry()
        return super().get(key) if enclosing is None else enclosing.get(key)

    def _enclosing_registry(self) -> root.Registry | None:
        """Return the sibling registry of the innermost default scope that is not ours."""
        for scope in reversed(list(DefaultScope._instance_dict.values())):
            if scope.scope_name == SCOPE:
                continue
            import_module(f'{scope.scope_name}.registry')
            return self.root._search_child(scope.scope_name)
        return None


RUNNERS = Registry('runner', root.RUNNERS)
RUNNER_CONSTRUCTORS = Registry('runner constructor', root.RUNNER_CONSTRUCTORS)
LOOPS = Registry('loop', root.LOOPS)
HOOKS = Registry('hook', root.HOOKS, ['reviewkd_mm.engine.hooks'])
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
    'optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS
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
