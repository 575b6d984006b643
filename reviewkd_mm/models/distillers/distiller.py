"""The model that the Runner trains."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError, RunError, config_key
from reviewkd_mm.models.distillers.channels_last import set_memory_format, thin_strided_convs
from reviewkd_mm.models.distillers.checkpoint import (
    STUDENT,
    allowed,
    check_finite,
    describe_mismatch,
    drop_allowed_shapes,
    is_norm_state,
)
from reviewkd_mm.models.distillers.frozen_taps import check_not_frozen
from reviewkd_mm.models.distillers.head_channels import check_head_channels
from reviewkd_mm.models.distillers.learning_rates import check_constructor
from reviewkd_mm.models.distillers.model_source import read_source
from reviewkd_mm.models.distillers.normalization import PixelFormat
from reviewkd_mm.models.distillers.probe import (
    dummy_images,
    image_channels,
    probe,
    record_images,
)
from reviewkd_mm.models.distillers.teacher import build_teacher
from reviewkd_mm.models.distillers.teacher_options import OLD_NAMES, TeacherOptions
from reviewkd_mm.models.distillers.transfer import TransferSettings, read_transfers
from reviewkd_mm.models.distillers.warmup import warmup_factor
from reviewkd_mm.models.losses.checks import check_loss_weight
from reviewkd_mm.models.recorders import Recorder
from reviewkd_mm.registry import MODELS
from reviewkd_mm.utils import check_bool, did_you_mean, forked_rng

# Whatever is drawn beside the student is drawn from this seed, the same on every rank.
SEED = 0


@MODELS.register_module()
class Distiller(BaseModel):
    """A student, a frozen teacher and the transfers between them.

    Trains like the student: same data, same losses under their own names, and one more loss,
    ``loss_<name>``, for each transfer. In every mode but ``'loss'`` it is the student.
    Attributes that it lacks are the student's.

    Args:
        student (dict | str | nn.Module): A model config, a config path (``'pkg::path'`` or a
            file) or a built model.
        teacher (dict | str | nn.Module): Likewise.
        transfers (dict): Keys and values of :class:`TransferSettings` by name.
        teacher_ckpt (str | Path, optional): Path or URL of the teacher's weights, or
            ``'random'``. Defaults to None, which means those that the metafile of a
            ``'pkg::path'`` names, those of the teacher's own ``init_cfg`` or ``pretrained``, or
            the built model's own.
        teacher_options (dict, optional): How the teacher is run, see :class:`TeacherOptions`.
            Defaults to None, which means as it is.
        data_preprocessor (dict, optional): Given to a student config that lacks one. Defaults
            to None.
        task_loss_weight (float): Factor of the student's own losses. Defaults to 1.0.
        channels_last (bool): Whether student, teacher and connectors run in PyTorch's
            channels_last memory format. A student that is too thin for it does without, see
            :func:`thin_strided_convs`, and so do networks that run in the other one alone.
            Defaults to True.
        transfers_compile (bool): Whether connectors and losses are compiled. Defaults to False.
        allow_mismatch (str | Sequence[str]): Patterns of state-dict names, such as
            ``'student.head.fc.*'`` or ``'teacher.head.*'``, that a loaded checkpoint may lack,
            add, or have in another shape. Defaults to (), which means that everything must fit.
        trust_checkpoint (bool): Whether ``teacher_ckpt`` may hold more than tensors and plain
            values: reading such a file runs code in it. Defaults to False.
        **old_options: The names that teacher options had before, such as ``teacher_dtype``.

    Raises:
        ValueError: If a setting is not valid, with the config key in the message.

    Examples:
        >>> distiller = MODELS.build(dict(
        ...     type='reviewkd_mm.Distiller',
        ...     student='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        ...     teacher='mmdet::retinanet/retinanet_r101_fpn_ms-640-800-3x_coco.py',
        ...     transfers=dict(review=dict(
        ...         student='neck', teacher='neck',
        ...         connector=dict(type='ReviewConnector'), loss=dict(type='HCLLoss')))))
    """

    def __init__(
        self,
        student: Mapping | str | Path | nn.Module,
        teacher: Mapping | str | Path | nn.Module,
        transfers: Mapping[str, Mapping],
        teacher_ckpt: str | Path | None = None,
        teacher_options: TeacherOptions | Mapping | None = None,
        data_preprocessor: Mapping | nn.Module | None = None,
        task_loss_weight: float = 1.0,
        channels_last: bool = True,
        transfers_compile: bool = False,
        allow_mismatch: str | Sequence[str] = (),
        trust_checkpoint: bool = False,
        **old_options: Any,
    ) -> None:
        if student is teacher and isinstance(student, nn.Module):
            raise ConfigError('student and teacher are the same module; give a copy as teacher')
        check_bool('channels_last', channels_last)
        check_bool('transfers_compile', transfers_compile)
        check_bool('trust_checkpoint', trust_checkpoint)
        _check_known(old_options)
        options = TeacherOptions.of(teacher_options, old_options)
        settings = read_transfers(transfers)
        patterns = _read_patterns(allow_mismatch)
        built = _build_student(student, data_preprocessor)
        if _lacks_loss(built):
            raise ConfigError("student: the key 'head' is missing: without it no loss trains it")
        super().__init__(data_preprocessor=getattr(built, 'data_preprocessor', None))
        channels = image_channels(built)
        PixelFormat.of(self.data_preprocessor).check('student', channels)
        self.student = built
        with config_key('task_loss_weight'):
            self.task_loss_weight = check_loss_weight(task_loss_weight)
        self.allow_mismatch = patterns
        self.channels_last = channels_last and not _is_too_thin(built)
        self.student_recorders = {name: given.student for name, given in settings.items()}
        self.teacher_recorders = {name: given.teacher for name, given in settings.items()}
        self._student_has_weights = isinstance(student, nn.Module)
        self._loading: tuple[Sequence[str], list[str]] = (), []
        self._told_layer_depth = False
        with forked_rng(SEED):
            self._teacher = build_teacher(
                teacher,
                teacher_ckpt,
                self.data_preprocessor,
                channels,
                _patterns('teacher.', patterns),
                options,
                trust_checkpoint,
            )
            self._probe()
            self.transfers = self._build_transfers(settings, transfers_compile)
        self.register_state_dict_post_hook(_name_as_alone)
        self.register_load_state_dict_post_hook(_check_loaded)

    def _probe(self) -> None:
        """Find how far student and teacher must run, and leave dummy features in the recorders."""
        if not self.channels_last:
            self._probe_networks()
            return
        set_memory_format(self.student, torch.channels_last)
        set_memory_format(self.teacher, torch.channels_last)
        try:
            self._probe_networks()
        except RunError as error:
            # Some networks view their features as if they were contiguous.
            set_memory_format(self.student, torch.contiguous_format)
            set_memory_format(self.teacher, torch.contiguous_format)
            self._probe_networks()
            self.channels_last = False
            print_log(f'channels_last is off: {error}', logger='current')

    def _probe_networks(self) -> None:
        with forked_rng(SEED):  # Its noise takes no random numbers from the connectors.
            check_head_channels(self.student, 'student')
        recorders = {f'transfers.{n}.student': r for n, r in self.student_recorders.items()}
        self.student_forward = probe(self.student, recorders)
        with forked_rng(SEED):
            self._frozen = check_not_frozen(self.student, recorders, self.student_forward)
        recorders = {f'transfers.{n}.teacher': r for n, r in self.teacher_recorders.items()}
        self._teacher.probe(recorders)

    def _build_transfers(
        self, settings: Mapping[str, TransferSettings], compile: bool
    ) -> nn.ModuleDict:
        transfers = nn.ModuleDict()
        for name, given in settings.items():
            with config_key(f'transfers.{name}'):
                transfers[name] = given.build(
                    given.student.features(), given.teacher.features(), compile
                )
        self._clear()
        if self.channels_last:
            set_memory_format(transfers, torch.channels_last)
        return transfers

    @property
    def teacher(self) -> nn.Module:
        """The teacher, which is no submodule."""
        return self._teacher.model

    def teacher_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of the teacher's images.

        Args:
            size (tuple[int, int]): (height, width) of the student's.
        """
        return self._teacher.options.size or size

    def teacher_step(self, data: dict | tuple | list) -> Any:
        """Let the teacher predict on a batch, as ``val_step`` lets the student.

        It gets what it gets in training: the student's batch in its own normalisation.

        Args:
            data (dict | tuple | list): A batch of the validation's dataloader.

        Returns:
            Any: The teacher's predictions, for an evaluator.
        """
        data = self.data_preprocessor(data, False)
        return self._teacher.predict(data['inputs'], data['data_samples'])

    def init_weights(self) -> None:
        """Initialise the student as if it were trained alone, then the connectors.

        A student that was given as a built model keeps its weights, and so does the teacher.

        Raises:
            ValueError: If the optimizer of a training was made from names that are not the
                student's own, see :func:`check_constructor`.
        """
        if not self._told_layer_depth:
            check_constructor()
        if self.channels_last:
            # Random numbers are drawn in the order of the memory: the order of the student alone.
            set_memory_format(self.student, torch.contiguous_format)
            set_memory_format(self.transfers, torch.contiguous_format)
        if not self._student_has_weights and hasattr(self.student, 'init_weights'):
            self.student.init_weights()
        with forked_rng(SEED):
            for transfer in self.transfers.values():
                transfer.init_weights()
        if self.channels_last:
            set_memory_format(self.student, torch.channels_last)
            set_memory_format(self.transfers, torch.channels_last)

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Tell how deep a parameter lies, for MMPretrain's layer-wise learning-rate decay.

        Args:
            param_name (str): Its name here. One of a transfer counts as one of the student's head.

        Returns:
            tuple[int, int]: What the student says of it: the layer and the number of layers.
        """
        self._told_layer_depth = True
        return self.student.get_layer_depth(param_name.removeprefix(STUDENT))

    def forward(
        self, inputs: Tensor, data_samples: Sequence | None = None, mode: str = 'tensor'
    ) -> Any:
        """Run the student; in mode ``'loss'`` let the teacher teach it.

        Args:
            inputs (Tensor): Batch (N, C, H, W) from the student's data_preprocessor.
            data_samples (Sequence, optional): Its samples. Defaults to None.
            mode (str): ``'loss'``, ``'predict'`` or ``'tensor'``. Defaults to ``'tensor'``.

        Returns:
            Any: A dict of losses in mode ``'loss'``, else what the student returns.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.student(self._lay_out(inputs), data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: Sequence | None = None) -> dict[str, Any]:
        """Compute the student's losses and one more for each transfer.

        Args:
            inputs (Tensor): Batch (N, C, H, W) from the student's data_preprocessor.
            data_samples (Sequence, optional): Its samples. Defaults to None.

        Returns:
            dict: The student's losses, scaled by ``task_loss_weight``, under their own names (a
            bare ``loss`` as ``loss_cls``) and ``loss_<name>`` of each transfer.

        Raises:
            RuntimeError: If the inputs are no batch, a transfer and the student have a loss of
                the same name, a tap recorded nothing, or no gradient reaches the student at a tap.
        """
        if not isinstance(inputs, Tensor):
            raise RunError(
                f'student: its data_preprocessor gives a {type(inputs).__name__}; expected one '
                'batch of images (N, C, H, W). Models that learn from several views are not '
                'distilled'
            )
        inputs = self._lay_out(inputs)
        try:
            # First the teacher: its activations are gone before the student's are kept.
            teacher_features = self.record_teacher(inputs, data_samples)
            losses = self._task_losses(inputs, data_samples)
            for name, transfer in self.transfers.items():
                if f'loss_{name}' in losses:
                    raise RunError(
                        f"transfers.{name}: the student has a loss of the name 'loss_{name}'; "
                        'rename the transfer'
                    )
                student_features = self.student_recorders[name].features()
                with config_key(f'transfers.{name}', (ValueError,)):
                    loss = transfer(student_features, teacher_features[name], data_samples)
                    factor = warmup_factor(transfer.warmup_epochs)
                losses[f'loss_{name}'] = loss if factor == 1 else loss * factor
        finally:
            self._clear()
        return losses

    def record_teacher(
        self, inputs: Tensor, data_samples: Sequence | None = None
    ) -> dict[str, list[Tensor]]:
        """Run the teacher as far as its last tap.

        Args:
            inputs (Tensor): The student's batch (N, C, H, W).
            data_samples (Sequence, optional): Its samples. Defaults to None.

        Returns:
            dict[str, list[Tensor]]: Its features, shallow to deep, by transfer.
        """
        recorders = self.teacher_recorders
        self._teacher.record(recorders.values(), inputs, data_samples)
        return {name: recorder.features() for name, recorder in recorders.items()}

    def dummy_features(
        self, size: tuple[int, int]
    ) -> dict[str, tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]]]:
        """Show what every transfer would compare, for a noise image.

        Args:
            size (tuple[int, int]): Its (height, width) in pixels.

        Returns:
            dict[str, tuple[list, list]]: By transfer, the taps and features (1, C, H, W) of the
            student and of the teacher, shallow to deep.
        """
        student, teacher = self.student_recorders, self.teacher_recorders
        images = dummy_images(self.student, size=size)
        try:
            record_images(self.student, student.values(), self.student_forward, images)
            images = dummy_images(self.teacher, size=size)
            self._teacher.record_images(teacher.values(), images)
            return {
                name: (_named(student[name]), _named(teacher[name])) for name in self.transfers
            }
        finally:
            self._clear()

    def _clear(self) -> None:
        for recorder in (*self.student_recorders.values(), *self.teacher_recorders.values()):
            recorder.clear()

    def _lay_out(self, inputs: Tensor) -> Tensor:
        if not self.channels_last:
            return inputs
        return inputs.contiguous(memory_format=torch.channels_last)

    def _task_losses(self, inputs: Tensor, data_samples: Sequence | None) -> dict[str, Any]:
        with ExitStack() as stack:
            for recorder in self.student_recorders.values():
                stack.enter_context(recorder.recording(self.student))
            losses = dict(self.student(inputs, data_samples, mode='loss'))
        if torch.is_grad_enabled():
            for name, recorder in self.student_recorders.items():
                with config_key(f'transfers.{name}.student', (ValueError,)):
                    _check_gradients(recorder, self.student, self._frozen)
        if 'loss' in losses:
            if 'loss_cls' in losses:
                raise RunError(
                    "the student's losses 'loss' and 'loss_cls' would both be logged as 'loss_cls'"
                )
            losses = {'loss_cls' if key == 'loss' else key: v for key, v in losses.items()}
        return {
            key: self._scale(value) if 'loss' in key else value for key, value in losses.items()
        }

    def _scale(self, loss: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        if self.task_loss_weight == 1:
            return loss
        if isinstance(loss, Tensor):
            return loss * self.task_loss_weight
        return [value * self.task_loss_weight for value in loss]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            student = self.__dict__.get('_modules', {}).get('student')
            if student is None or name.startswith('_'):
                raise
            return getattr(student, name)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> Distiller:
        super()._apply(fn, *args, **kwargs)
        self._teacher.apply_to_tensors(fn)
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Tensor],
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take a plain student checkpoint too, and keep what :func:`_check_loaded` reads."""
        names = [name for name in state_dict if name.startswith(prefix)]
        parts = (prefix + STUDENT, f'{prefix}transfers.')
        student_only = not any(name.startswith(parts) for name in names)
        if student_only:
            for name in names:
                renamed = prefix + STUDENT + name.removeprefix(prefix)
                state_dict[renamed] = state_dict.pop(name)
        patterns = [prefix + pattern for pattern in self.allow_mismatch]
        drop_allowed_shapes(state_dict, self.state_dict(prefix=prefix), patterns)
        if student_only:
            patterns.append(f'{prefix}transfers.*')
        if is_norm_state(names, self, prefix):
            patterns.append(f'{prefix}*')
        self._loading = patterns, error_msgs
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )


def _check_known(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if name not in OLD_NAMES:
            known = [*inspect.signature(Distiller).parameters]
            raise ConfigError(
                f"model: Distiller has no setting '{name}'={value!r}; {did_you_mean(name, known)}"
            )


def _check_gradients(recorder: Recorder, student: nn.Module, frozen: frozenset[str]) -> None:
    """Check that gradients reach the student at every tap whose stage trains.

    ``frozen`` names the features that are known to lie on nothing that trains.
    """
    for tap in recorder.taps:
        features = tap.features()
        if all(feature.requires_grad for feature in features):
            continue
        named = zip(tap.names(), features, strict=True)
        cut = {name for name, feature in named if not feature.requires_grad}
        if cut - frozen and tap.trainable(student):
            raise RunError(
                f"tap '{tap.source}' carries no gradient although its stage trains: the student "
                'detaches it, or recomputes it under reentrant activation checkpointing. Tap a '
                'module outside of that'
            )


def _named(recorder: Recorder) -> list[tuple[str, Tensor]]:
    return list(zip(recorder.names(), recorder.features(), strict=True))


def _is_too_thin(student: nn.Module) -> bool:
    thin = thin_strided_convs(student)
    if thin:
        print_log(
            f"channels_last is off: the student's '{thin[0]}' is too thin for it on a CPU",
            logger='current',
        )
    return bool(thin)


def _build_student(
    student: Mapping | str | Path | nn.Module, data_preprocessor: Mapping | nn.Module | None
) -> nn.Module:
    if isinstance(student, nn.Module):
        return student
    source = read_source('student', student)
    if data_preprocessor is not None:
        source.cfg.setdefault('data_preprocessor', copy.deepcopy(data_preprocessor))
    return source.build('student')


def _lacks_loss(student: nn.Module) -> bool:
    """Tell whether a student's loss is that of a head which it does not have."""
    if getattr(student, 'with_head', True):
        return False
    loss = inspect.unwrap(getattr(type(student), 'loss', None))
    code = getattr(loss, '__code__', None)
    return code is not None and 'head' in code.co_names


def _read_patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    patterns = [given] if isinstance(given, str) else given
    is_list = isinstance(patterns, Sequence)
    if not is_list or not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigError(
            f"allow_mismatch={given!r}: expected patterns of names, such as 'teacher.head.*'"
        )
    return tuple(patterns)


def _patterns(prefix: str, patterns: Sequence[str]) -> list[str]:
    return [p.removeprefix(prefix) for p in patterns if p.startswith(prefix)]


def _name_as_alone(distiller: Distiller, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Save the student's weights under the names that it saves them under alone.

    A hook of the student may rename them in a dict of its own, which torch drops where the student
    is part of another module.
    """
    if not distiller.student._state_dict_hooks:
        return
    prefix += STUDENT
    found = [state.pop(name) for name in [*state] if name.startswith(prefix)]
    keep = any(isinstance(value, nn.Parameter) for value in found)
    state.update(distiller.student.state_dict(prefix=prefix, keep_vars=keep))


def _check_loaded(distiller: Distiller, incompatible: Any) -> None:
    """Refuse a checkpoint that leaves a part of the distiller as it was.

    MMEngine's Runner only warns of missing and unexpected names and of shapes that differ.
    """
    patterns, errors = distiller._loading
    distiller._loading = (), []
    problems = describe_mismatch(*incompatible, errors, patterns)
    if problems:
        raise RunError(f'the checkpoint does not fit the distiller: {problems}')
    check_finite(distiller, 'the checkpoint of the distiller')
    for names in incompatible:  # What is allowed is no error of torch's strict loading either.
        names[:] = [name for name in names if not allowed([name], patterns)]
