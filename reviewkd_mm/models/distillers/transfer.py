"""One line of teaching."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from reviewkd_mm.errors import WRONG_SETTING, ConfigError, UserError, config_key
from reviewkd_mm.models.distillers.probe import evaluating
from reviewkd_mm.models.recorders import Recorder
from reviewkd_mm.registry import MODELS, SCOPE, look_up
from reviewkd_mm.utils import did_you_mean

KEYS = ('student', 'teacher', 'connector', 'loss', 'warmup_epochs')


class Transfer(nn.Module):
    """Compare what the student shows with what the teacher shows.

    A function of the features alone: where they are read is the distiller's business.

    Args:
        loss (nn.Module): Compares two lists of features; one whose forward has ``data_samples``
            gets the samples of the batch too.
        connector (nn.Module, optional): Maps the student's features into the teacher's space; one
            whose forward has ``out_sizes`` gets the teacher's (H, W). Defaults to None.
        warmup_epochs (float): The distiller multiplies the loss by the factor of
            :func:`warmup_factor`. Defaults to 0, which means no warm-up.
        compile (bool): Whether connector and loss go through ``torch.compile``. Defaults to
            False.
    """

    def __init__(
        self,
        loss: nn.Module,
        connector: nn.Module | None = None,
        warmup_epochs: float = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.connector = connector
        self.loss = loss
        self.warmup_epochs = warmup_epochs
        self._takes_sizes = connector is not None and 'out_sizes' in _parameters(connector)
        self._takes_samples = 'data_samples' in _parameters(loss)
        self._run = torch.compile(Transfer._compare) if compile else Transfer._compare

    def forward(
        self,
        student_features: list[Tensor],
        teacher_features: list[Tensor],
        data_samples: Sequence | None = None,
    ) -> Tensor:
        """Compare the features.

        Args:
            student_features (list[Tensor]): Features (N, C_i, H_i, W_i), shallow to deep.
            teacher_features (list[Tensor]): Likewise; they get no gradient.
            data_samples (Sequence, optional): The samples of the batch, for a loss that takes
                them. Defaults to None.

        Returns:
            Tensor: The loss, a 0-d tensor, its weight included and its warm-up not.
        """
        targets = _at_least_in_precision_of(student_features, teacher_features)
        samples = data_samples if self._takes_samples else None
        return self._run(self, student_features, targets, samples)

    def connect(self, student: list[Tensor], teacher: list[Tensor]) -> Sequence[Tensor]:
        """Map the student's features into the teacher's space, if there is a connector.

        Args:
            student (list[Tensor]): Features (N, C_i, H_i, W_i) of the student.
            teacher (list[Tensor]): Features of the teacher, whose sizes the connector may need.

        Returns:
            Sequence[Tensor]: What the loss compares with the teacher's features.
        """
        if self.connector is None:
            return student
        if not self._takes_sizes:
            return self.connector(student)
        return self.connector(student, out_sizes=[tuple(t.shape[-2:]) for t in teacher])

    def init_weights(self) -> None:
        """Initialise the connector by its own ``init_weights``, if it has one."""
        if hasattr(self.connector, 'init_weights'):
            self.connector.init_weights()

    def _compare(
        self, student: list[Tensor], teacher: list[Tensor], data_samples: Sequence | None
    ) -> Tensor:
        mapped = self.connect(student, teacher)
        if not self._takes_samples:
            return self.loss(mapped, teacher)
        return self.loss(mapped, teacher, data_samples=data_samples)


@dataclass
class TransferSettings:
    """What a config says of a transfer, read before its features are known.

    Args:
        student (Recorder): Reads the student's taps, shallow to deep.
        teacher (Recorder): Reads the teacher's.
        loss (dict | nn.Module): The loss; of one whose signature has ``in_channels`` and
            ``out_channels`` these are inferred.
        connector (dict | nn.Module, optional): The connector, likewise.
        warmup_epochs (float): See :class:`Transfer`.
    """

    student: Recorder
    teacher: Recorder
    loss: Mapping | nn.Module
    connector: Mapping | nn.Module | None = None
    warmup_epochs: float = 0

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> TransferSettings:
        """Read a transfer's dict.

        Args:
            arguments (dict): Its keys and values.

        Raises:
            ConfigError: If a key or a value is not valid.
        """
        _check_keys(arguments)
        with config_key('student'):
            student = Recorder(arguments['student'])
        with config_key('teacher'):
            teacher = Recorder(arguments['teacher'])
        settings = cls(
            student, teacher, **{key: arguments[key] for key in KEYS[2:] if key in arguments}
        )
        with config_key('loss'):
            _find_type(settings.loss)
        with config_key('connector'):
            if settings.connector is not None:
                _find_type(settings.connector)
        epochs = settings.warmup_epochs
        if not isinstance(epochs, Real) or not 0 <= epochs < float('inf'):
            raise ConfigError(f'warmup_epochs={epochs!r}: expected a number of epochs >= 0')
        return settings

    @torch.no_grad()
    def build(
        self, student: list[Tensor], teacher: list[Tensor], compile: bool = False
    ) -> Transfer:
        """Build the transfer for features and try it on them.

        Args:
            student (list[Tensor]): Features (N, C_i, H_i, W_i) of the student, of a dummy image.
            teacher (list[Tensor]): Likewise of the teacher.
            compile (bool): Whether connector and loss are compiled. Defaults to False.

        Returns:
            Transfer: The transfer, on the device and in the dtype of the student's features.

        Raises:
            ConfigError: If channels, numbers or shapes of the features do not fit.
        """
        teacher = _at_least_in_precision_of(student, teacher)
        connector, mapped = None, student
        if self.connector is not None:
            with self._telling_what_is_no_map(), config_key('connector'):
                connector = _build(self.connector, student, teacher)
                # Without the loss, whose channels are those that the connector gives.
                alone = Transfer(nn.Identity(), connector)
                with _tried(connector):
                    mapped = alone.connect(student, teacher)
        with self._telling_what_is_no_map(), config_key('loss'):
            loss = _build(self.loss, mapped, teacher)
            with _tried(loss):
                Transfer(loss)(mapped, teacher, _dummy_samples(len(student[0])))
        return Transfer(loss, connector, self.warmup_epochs, compile)

    @contextmanager
    def _telling_what_is_no_map(self) -> Iterator[None]:
        """Add the taps that give tokens or the like to an error: few parts take them."""
        try:
            yield
        except UserError as error:
            for side, recorder in (('student', self.student), ('teacher', self.teacher)):
                found = recorder.describe_no_map() if recorder.recorded else ''
                if found:
                    error.args = (f"{error.args[0]}; the {side}'s {found}",)
            raise


def read_transfers(transfers: Mapping[str, Mapping]) -> dict[str, TransferSettings]:
    """Read the transfers of a distiller.

    Args:
        transfers (Mapping[str, Mapping]): Keys and values of :class:`TransferSettings` by name.

    Returns:
        dict[str, TransferSettings]: By name.

    Raises:
        ConfigError: If a name, a key or a value is not valid.
    """
    if not isinstance(transfers, Mapping) or not transfers:
        raise ConfigError(
            f'transfers={transfers!r}: expected a dict of at least one transfer, such as '
            "dict(review=dict(student='neck', teacher='neck', loss=dict(type='HCLLoss')))"
        )
    settings = {}
    for name, arguments in transfers.items():
        with config_key(f'transfers.{name}'):
            _check_name(name)
            settings[name] = TransferSettings.read(arguments)
    return settings


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError('expected a name of letters, digits and underscores')
    if hasattr(nn.ModuleDict(), name):
        raise ConfigError(f"'{name}' is taken by a method of torch.nn.ModuleDict; choose another")
    if name == 'cls':
        raise ConfigError("it would be logged as loss_cls, which is the student's own; rename it")


def _check_keys(arguments: Mapping[str, Any]) -> None:
    if not isinstance(arguments, Mapping):
        raise ConfigError(f'expected a dict with {", ".join(KEYS)}, got {arguments!r}')
    for key in arguments:
        if key not in KEYS:
            raise ConfigError(f"there is no key '{key}'; {did_you_mean(key, KEYS)}")
    for key in ('student', 'teacher', 'loss'):
        if key not in arguments:
            raise ConfigError(f"the key '{key}' is missing")


def _build(
    cfg: Mapping | nn.Module, student: Sequence[Tensor], teacher: list[Tensor]
) -> nn.Module:
    """Build a connector or a loss, with the channels of the features where it takes them."""
    if not isinstance(cfg, nn.Module):
        cfg = {**cfg, **_channels(cfg, student, teacher)}
        with MODELS.switch_scope_and_registry(SCOPE) as registry:
            cfg = registry.build(cfg)
    return cfg.to(device=student[0].device, dtype=student[0].dtype)


def _channels(
    cfg: Mapping, student: Sequence[Tensor], teacher: list[Tensor]
) -> dict[str, int | Sequence[int]]:
    """Return ``in_channels`` and ``out_channels``, inferred, or as given and checked."""
    parameters = inspect.signature(_find_type(cfg)).parameters
    inferred = {}
    for key, features in (('in_channels', student), ('out_channels', teacher)):
        if key not in parameters:
            continue
        channels = [_count_channels(feature) for feature in features]
        given = cfg.get(key, channels)
        if (list(given) if isinstance(given, Sequence) else [given]) != channels:
            raise ConfigError(f'{key}={given}, but the taps give {channels}')
        inferred[key] = given
    return inferred


@contextmanager
def _tried(module: nn.Module) -> Iterator[None]:
    """Try a module in eval mode; say that it was given for what it is not, where it fails."""
    try:
        with evaluating(module):
            yield
    except UserError:
        raise
    except WRONG_SETTING as error:
        raise ConfigError(
            f'{type(module).__name__} cannot take the features: expected a connector, called with '
            "the student's features, or a loss, called with the student's and the teacher's "
            f'({type(error).__name__}: {error})'
        ) from error


def _count_channels(feature: Tensor) -> int:
    if feature.dim() != 4:
        raise ConfigError(
            f'a feature has the shape {tuple(feature.shape)}; expected (N, C, H, W) or (N, C)'
        )
    return feature.shape[1]


def _find_type(cfg: Mapping | nn.Module) -> type:
    if isinstance(cfg, nn.Module):
        return type(cfg)
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError(f"expected a dict with the key 'type', got {cfg!r}")
    if callable(cfg['type']):
        return cfg['type']
    if not isinstance(cfg['type'], str):
        raise ConfigError(f"type={cfg['type']!r}: expected the name of a class, such as 'HCLLoss'")
    with MODELS.switch_scope_and_registry(cfg.get('_scope_') or SCOPE) as registry:
        found = look_up(registry, cfg['type'])
    if found is None:
        name = cfg['type'].rpartition('.')[-1]
        hint = did_you_mean(name, sorted(MODELS.module_dict))
        raise ConfigError(f"type='{cfg['type']}' is not registered; {hint}")
    return found


def _parameters(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(module.forward).parameters


def _dummy_samples(count: int) -> list[BaseDataElement]:
    label = torch.zeros(1, dtype=torch.long)
    return [
        BaseDataElement(metainfo=dict(sample_idx=index), gt_label=label) for index in range(count)
    ]


def _at_least_in_precision_of(student: list[Tensor], teacher: list[Tensor]) -> list[Tensor]:
    if len(student) != len(teacher):
        return teacher
    pairs = zip(student, teacher, strict=True)
    return [t.to(torch.promote_types(s.dtype, t.dtype)) for s, t in pairs]
