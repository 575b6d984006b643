"""Give the student's parameters the rates that they have when it trains alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as ROOT
from torch import nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.models.distillers.checkpoint import STUDENT
from reviewkd_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StudentOptimWrapperConstructor:
    """Any constructor of an optimizer wrapper, applied to a distiller's student alone.

    Constructors such as those of layer-wise learning-rate decay go by the names of parameters,
    ``backbone.stages.0...``, which a distiller calls ``student.backbone.stages.0...``. Here they
    see the student as it is. The parameters of the transfers follow as parameter groups of their
    own, with what MMEngine's DefaultOptimWrapperConstructor gives them for the same
    ``paramwise_cfg``: the full rate, unless a key of ``custom_keys`` says otherwise.

    Keys of ``custom_keys`` may be written for the student, such as ``'backbone'``, or for the
    distiller, such as ``'student.backbone'`` and ``'transfers'``. ``tools/train.py`` puts this
    class before the constructor that a distiller's config names.

    Args:
        optim_wrapper_cfg (dict): ``optim_wrapper`` without ``constructor`` and
            ``paramwise_cfg``. Its key ``student_constructor`` names the constructor.
        paramwise_cfg (dict, optional): The settings of both constructors. Defaults to None.

    Examples:
        >>> optim_wrapper = dict(
        ...     constructor='reviewkd_mm.StudentOptimWrapperConstructor',
        ...     student_constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        ...     optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        ...     paramwise_cfg=dict(layer_decay_rate=0.7))
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        optim_wrapper_cfg = copy.deepcopy(optim_wrapper_cfg)
        named = optim_wrapper_cfg.pop('student_constructor', 'DefaultOptimWrapperConstructor')
        self._of_transfers = DefaultOptimWrapperConstructor(optim_wrapper_cfg, paramwise_cfg)
        self._of_student = ROOT.build(
            dict(
                type=named,
                optim_wrapper_cfg=optim_wrapper_cfg,
                paramwise_cfg=_for_student(paramwise_cfg),
            )
        )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper.

        Args:
            model (nn.Module): The distiller, or a model wrapper around it.

        Returns:
            OptimWrapper: Its optimizer has the student's groups, then those of the transfers.

        Raises:
            ValueError: If the model is no distiller, or there are several optimizers.
        """
        distiller = model.module if is_model_wrapper(model) else model
        if not isinstance(distiller, Distiller):
            raise ConfigError(
                'optim_wrapper.constructor=StudentOptimWrapperConstructor: expected a Distiller, '
                f'got a {type(distiller).__name__}'
            )
        wrapper = self._of_student(distiller.student)
        groups: list[dict] = []
        self._of_transfers.add_params(groups, distiller.transfers, prefix='transfers')
        if groups and isinstance(wrapper, OptimWrapperDict):
            raise ConfigError(
                'optim_wrapper.student_constructor: expected one of a single optimizer, to which '
                f'the parameters of the transfers are added; got those of {[*wrapper.keys()]}'
            )
        names = {parameter: name for name, parameter in distiller.named_parameters()}
        for group in groups:
            if 'param_names' in wrapper.optimizer.param_groups[0]:  # All groups, or none, have it.
                group['param_names'] = [names[parameter] for parameter in group['params']]
            wrapper.optimizer.add_param_group(group)
        return wrapper


def _for_student(paramwise_cfg: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return a copy of the settings, which some constructors change, with the student's names."""
    settings = copy.deepcopy(paramwise_cfg)
    keys = (settings or {}).get('custom_keys')
    if isinstance(keys, Mapping):
        # The bare 'student' becomes '', which is in every name and shorter than any other key.
        # Where both are given, the distiller's, which is the longer one, wins.
        inner = {f'{key}.'.removeprefix(STUDENT)[:-1]: key for key in sorted(keys, key=len)}
        settings['custom_keys'] = {name: keys[key] for name, key in inner.items()}
    return settings
