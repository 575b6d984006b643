"""One line of teaching."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError, RunError, config_key, find_user_error
from reviewkd_mm.models.distillers.compiled import Compiled
from reviewkd_mm.models.distillers.probe import evaluating
from reviewkd_mm.models.distillers.warmup import warmup_factor
from reviewkd_mm.models.recorders import Recorder
from reviewkd_mm.registry import MODELS, SCOPE
from reviewkd_mm.utils import did_you_mean

KEYS = ('student', 'teacher', 'connector', 'loss', 'warmup_epochs')


class Transfer(nn.Module):
    """Compare what the student shows at its taps with what the teacher shows at its own.

    Args:
        student (str | dict | Sequence): The student's taps, shallow to deep.
        teacher (str | dict | Sequence): The teacher's taps, shallow to deep.
        loss (dict | nn.Module): Compares the two lists of features. One whose signature has
            ``in_channels`` and ``out_channels`` gets those of the two, and one whose forward has
            ``data_samples`` the samples of the batch, which at build have ``gt_label`` 0 and a
            ``sample_idx`` alone.
        connector (dict | nn.Module, optional): Maps the student's features into the teacher's
            space. Its channels are inferred. Defaults to None.
        warmup_epochs (float): The loss is multiplied by ``min(1, epoch / warmup_epochs)``.
            Defaults to 0, which means no warm-up.

    Raises:
        ValueError: If a tap, the loss or the warm-up is not valid.
    """

    def __init__(
        self,
        student: str | Mapping | Sequence,
        teacher: str | Mapping | Sequence,
        loss: Mapping | nn.Module,
        connector: Mapping | nn.Module | None = None,
        warmup_epochs: float = 0,
    ) -> None:
        super().__init__()
        with config_key('student'):
            self.student_recorder = Recorder(student)
        with config_key('teacher'):
            self.teacher_recorder = Recorder(teacher)
        with config_key('loss'):
            self._loss_cfg = loss if _takes_channels(loss) else None
            self.loss = _build(loss) if self._loss_cfg is None else None
        if not isinstance(warmup_epochs, Real) or not 0 <= warmup_epochs < float('inf'):
            raise ConfigError(f'warmup_epochs={warmup_epochs!r}: expected a number of epochs >= 0')
        self.warmup_epochs = warmup_epochs
        built = isinstance(connector, nn.Module)
        self._connector_cfg = None if built else connector
        self.connector = connector if built else None
        self._takes_sizes = False
        self._takes_samples = False
        self._compiled: Compiled | None = None

    @torch.no_grad()
    def build_connector(self) -> None:
        """Build what needs channels for the recorded features and try it on them.

        Raises:
            ValueError: If channels, numbers or shapes of the features do not fit.
        """
        student = self.student_recorder.features()
        teacher = _at_least_in_precision_of(student, self.teacher_recorder.features())
        with config_key('connector'):
            if self._connector_cfg is not None:
                self.connector = _build_for(self._connector_cfg, student, teacher)
            if self.connector is not None:
                self.connector.to(device=student[0].device, dtype=student[0].dtype)
                parameters = inspect.signature(self.connector.forward).parameters
                self._takes_sizes = 'out_sizes' in parameters
        with config_key('connector'), evaluating(self), _tried(self.connector):
            mapped = self.connect(student, teacher)
        with config_key('loss'):
            if self._loss_cfg is not None:
                self.loss = _build_for(self._loss_cfg, mapped, teacher)
            self.loss.to(device=student[0].device, dtype=student[0].dtype)
            parameters = inspect.signature(self.loss.forward).parameters
            self._takes_samples = 'data_samples' in parameters
        with config_key('loss'), evaluating(self), _tried(self.loss):
            self._call_loss(mapped, teacher, _dummy_samples(len(student[0])))

    def compile_comparison(self, name: str) -> None:
        """Run connector and loss through torch.compile from now on.

        Args:
            name (str): What a warning calls them where that fails.
        """
        self._compiled = Compiled(_compare, name, eager=Transfer._compare)

    def forward(self, data_samples: Sequence | None = None) -> Tensor:
        """Compare the recorded features.

        Args:
            data_samples (Sequence, optional): The samples of the batch, for a loss that takes
                them. Defaults to None.

        Returns:
            Tensor: The loss, a 0-d tensor, its weight and warm-up included.

        Raises:
            ValueError: If the connector or the loss cannot take the features, such as one image
                with a map of one pixel before BatchNorm.
        """
        student = self.student_recorder.features()
        teacher = _at_least_in_precision_of(student, self.teacher_recorder.features())
        compare = self._compiled or Transfer._compare
        samples = data_samples if self._takes_samples else None
        loss = compare(self, student, teacher, samples)
        factor = warmup_factor(self.warmup_epochs)
        return loss if factor == 1 else loss * factor

    def _compare(
        self, student: list[Tensor], teacher: list[Tensor], data_samples: Sequence | None
    ) -> Tensor:
        with config_key('connector', (ValueError,)):
            mapped = self.connect(student, teacher)
        with config_key('loss', (ValueError,)):
            return self._call_loss(mapped, teacher, data_samples)

    def check_student_learns(self, student: nn.Module) -> None:
        """Check that gradients reach the student at every tap whose stage trains.

        Args:
            student (nn.Module): The student, after a forward that was recorded.

        Raises:
            RuntimeError: If a feature of a stage that trains carries no gradient.
        """
        for tap in self.student_recorder.taps:
            cut = not all(feature.requires_grad for feature in tap.features())
            if cut and tap.trainable(student):
                raise RunError(
                    f"student tap '{tap.source}' carries no gradient although its stage trains: "
                    'the student detaches it, or recomputes it under reentrant activation '
                    'checkpointing. Tap a module outside of that'
                )

    def init_weights(self) -> None:
        """Initialise the connector by its own ``init_weights``, if it has one."""
        if hasattr(self.connector, 'init_weights'):
            self.connector.init_weights()

    def clear(self) -> None:
        """Forget the recorded features."""
        self.student_recorder.clear()
        self.teacher_recorder.clear()

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

    def _call_loss(
        self, mapped: Sequence[Tensor], teacher: list[Tensor], data_samples: Sequence | None
    ) -> Tensor:
        if not self._takes_samples:
            return self.loss(mapped, teacher)
        return self.loss(mapped, teacher, data_samples=data_samples)


@contextmanager
def _tried(module: nn.Module | None) -> Iterator[None]:
    """Say that a module was given for what it is not, whatever it raises when it is tried."""
    try:
        yield
    except Exception as error:
        if find_user_error(error) is not None:
            raise
        raise ConfigError(
            f'{type(module).__name__} cannot take the features: expected a connector, called with '
            "the student's features, or a loss, called with the student's and the teacher's "
            f'({type(error).__name__}: {error})'
        ) from error


def _compare(
    transfer: Transfer,
    student: list[Tensor],
    teacher: list[Tensor],
    data_samples: Sequence | None,
) -> Tensor:
    """Compare as the transfer does, without what is there for error messages."""
    return transfer._call_loss(transfer.connect(student, teacher), teacher, data_samples)


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


def build_transfers(transfers: Mapping[str, Mapping]) -> nn.ModuleDict:
    """Build the transfers of a distiller; their connectors come once features are known.

    Args:
        transfers (Mapping[str, Mapping]): Arguments of :class:`Transfer` by name.

    Returns:
        nn.ModuleDict: Transfers by name.

    Raises:
        ValueError: If a name or an argument is not valid.
    """
    if not isinstance(transfers, Mapping) or not transfers:
        raise ConfigError(
            f'transfers={transfers!r}: expected a dict of at least one transfer, such as '
            "dict(review=dict(student='neck', teacher='neck', loss=dict(type='HCLLoss')))"
        )
    built = nn.ModuleDict()
    for name, arguments in transfers.items():
        with config_key(f'transfers.{name}'):
            _check_name(name)
            _check_arguments(arguments)
            built[name] = Transfer(**arguments)
    return built


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError('expected a name of letters, digits and underscores')
    if hasattr(nn.ModuleDict(), name):
        raise ConfigError(f"'{name}' is taken by a method of torch.nn.ModuleDict; choose another")
    if name == 'cls':
        raise ConfigError("it would be logged as loss_cls, which is the student's own; rename it")


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    if not isinstance(arguments, Mapping):
        raise ConfigError(f'expected a dict with {", ".join(KEYS)}, got {arguments!r}')
    for key in arguments:
        if key not in KEYS:
            raise ConfigError(f"there is no key '{key}'; {did_you_mean(key, KEYS)}")
    for key in ('student', 'teacher', 'loss'):
        if key not in arguments:
            raise ConfigError(f"the key '{key}' is missing")


def _takes_channels(cfg: Mapping | nn.Module) -> bool:
    if isinstance(cfg, nn.Module):
        return False
    return 'in_channels' in inspect.signature(_find_type(cfg)).parameters


def _build_for(cfg: Mapping, student: Sequence[Tensor], teacher: list[Tensor]) -> nn.Module:
    """Build a connector or a loss, with the channels of the features where it takes them."""
    parameters = inspect.signature(_find_type(cfg)).parameters
    inferred = {}
    for key, features in (('in_channels', student), ('out_channels', teacher)):
        if key not in parameters:
            continue
        channels = [_channels(feature) for feature in features]
        given = cfg.get(key, channels)
        if (list(given) if isinstance(given, Sequence) else [given]) != channels:
            raise ConfigError(f'{key}={given}, but the taps give {channels}')
        inferred[key] = given
    return _build({**cfg, **inferred})


def _channels(feature: Tensor) -> int:
    if feature.dim() != 4:
        raise ConfigError(
            f'a tap gives features of shape {tuple(feature.shape)}; expected (N, C, H, W) '
            'or (N, C)'
        )
    return feature.shape[1]


def _build(cfg: Mapping | nn.Module) -> nn.Module:
    if isinstance(cfg, nn.Module):
        return cfg
    _find_type(cfg)
    with MODELS.switch_scope_and_registry(SCOPE) as registry:
        return registry.build(dict(cfg))


def _find_type(cfg: Mapping) -> type:
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError(f"expected a dict with the key 'type', got {cfg!r}")
    if callable(cfg['type']):
        return cfg['type']
    if not isinstance(cfg['type'], str):
        raise ConfigError(f"type={cfg['type']!r}: expected the name of a class, such as 'HCLLoss'")
    with MODELS.switch_scope_and_registry(cfg.get('_scope_') or SCOPE) as registry:
        try:
            found = registry.get(cfg['type'])
        except RuntimeError:  # MMEngine's answer to a name that nothing knows.
            found = None
    if found is None:
        name = cfg['type'].rpartition('.')[-1]
        raise ConfigError(f"type='{cfg['type']}' is not registered; {_nearest_type(name)}")
    return found


def _nearest_type(name: str) -> str:
    return did_you_mean(name, sorted(MODELS.module_dict))
