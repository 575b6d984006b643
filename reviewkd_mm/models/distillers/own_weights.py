"""The weights that a teacher's config brings along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from reviewkd_mm.config.parts import PRETRAINED
from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.distillers.checkpoint import check_finite, load_weights

# What makes the models of timm and of Hugging Face load weights while they are built.
WHILE_BUILT = ('pretrained', 'checkpoint_path')


@dataclass(frozen=True)
class OwnWeights:
    """Weights of a model, or of its backbone, that its config names.

    Args:
        key (str): The key of the model's config that names them.
        checkpoint (str, optional): Path or URL. Defaults to None, which means that the model
            loads them while it is built.
        prefix (str): What the names of the weights start with. Defaults to ``''``.
    """

    key: str
    checkpoint: str | None = None
    prefix: str = ''

    @property
    def part(self) -> str:
        """Name of the module whose weights they are, ``''`` for the whole model."""
        return 'backbone' if self.key.startswith('backbone.') else ''

    def load(self, model: nn.Module, allow_mismatch: Sequence[str], trust: bool) -> None:
        """Give them to the model.

        Args:
            model (nn.Module): The model.
            allow_mismatch (Sequence[str]): As for :func:`load_weights`.
            trust (bool): Whether code in the checkpoint may run.

        Raises:
            ConfigError: If a part of the model would have no weights.
            FileNotFoundError: If there is no such file.
            RuntimeError: If they do not fit.
        """
        self.check_whole(model)
        key = f'teacher.{self.key}'
        if self.part:
            allow_mismatch = [pattern.removeprefix('backbone.') for pattern in allow_mismatch]
        if self.checkpoint is not None:
            load_weights(
                getattr(model, self.part) if self.part else model,
                self.checkpoint,
                key,
                allow_mismatch,
                trust,
                self.prefix,
                allow_more=bool(self.part),
            )
        check_finite(model, key)

    def check_whole(self, model: nn.Module) -> None:
        """Check that all of the model has weights then.

        Args:
            model (nn.Module): The model.

        Raises:
            ConfigError: If a part of it would have none.
        """
        parts = {name.partition('.')[0] for name, _ in model.named_parameters()}
        others = sorted(parts - {self.part})
        if self.part and others:
            raise ConfigError(
                f'teacher has no known checkpoint: teacher.{self.key} gives weights to the '
                f'backbone alone, none to {", ".join(others)}. Leave that out of the teacher, or '
                "set teacher_ckpt to weights of the whole, or to 'random' for an untrained teacher"
            )


def find_own_weights(cfg: Mapping[str, Any]) -> OwnWeights | None:
    """Find the weights that a model's config names.

    Args:
        cfg (dict): The config.

    Returns:
        OwnWeights | None: Those of the whole model before those of its backbone, None if there
        are none.
    """
    for path, part in (('', cfg), ('backbone.', cfg.get('backbone'))):
        if not isinstance(part, Mapping):
            continue
        given = part.get('init_cfg') or ()
        for init in [given] if isinstance(given, Mapping) else given:
            if init.get('type') in PRETRAINED:
                prefix = (init.get('prefix') or '').rstrip('.')
                key = f'{path}init_cfg.checkpoint'
                return OwnWeights(key, str(init['checkpoint']), prefix and f'{prefix}.')
        for name in WHILE_BUILT:
            value = part.get(name)
            if value:
                # MMPretrain's own classifiers take a path, and load it later.
                later = isinstance(value, str) and name == 'pretrained'
                return OwnWeights(path + name, value if later else None)
    return None


def without_own_weights(cfg: Mapping[str, Any]) -> None:
    """Keep a model from loading weights while it is built, since it gets others.

    Args:
        cfg (dict): The model's config, changed in place.
    """
    for part in (cfg, cfg.get('backbone')):
        for name in WHILE_BUILT if isinstance(part, Mapping) else ():
            if part.get(name) is True or (name == 'checkpoint_path' and part.get(name)):
                part[name] = False if name == 'pretrained' else ''
