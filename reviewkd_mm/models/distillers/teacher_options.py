"""How a teacher is run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import torch
from mmengine.logging import print_log

from reviewkd_mm.errors import ConfigError, config_key
from reviewkd_mm.utils import check_bool, did_you_mean

DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16, 'fp32': torch.float32}
# What torch.nn.functional.interpolate does to maps.
INTERPOLATIONS = ('bilinear', 'bicubic', 'nearest', 'nearest-exact', 'area')
# Names of options as arguments of the distiller; None where there is nothing to set any more.
OLD_NAMES = dict(
    teacher_compile='compile',
    teacher_dtype='dtype',
    teacher_fold_bn=None,
    teacher_input_size='input_size',
    teacher_interpolation='interpolation',
    teacher_stream=None,
    teacher_train_bn='train_bn',
)


@dataclass(frozen=True)
class TeacherOptions:
    """How a teacher is run.

    Args:
        dtype (str, optional): Precision of its convolutions and linear layers: ``'bf16'``,
            ``'fp16'`` or ``'fp32'``. Defaults to None, which means that of the student, mixed
            precision included.
        compile (bool): Whether it goes through ``torch.compile``. Defaults to False.
        train_bn (bool): Whether its BatchNorm uses the statistics of the batch, as the reference
            CIFAR code did, without writing the running ones. Defaults to False.
        input_size (int | tuple[int, int], optional): Height and width in pixels to which the
            batch is resized for the teacher; a number is both. Defaults to None, which means
            that of the student's batch.
        interpolation (str): How it is resized: ``'bilinear'``, ``'bicubic'``, ``'nearest'``,
            ``'nearest-exact'`` or ``'area'``. Defaults to ``'bilinear'``.

    Raises:
        ConfigError: If a setting is none of these.
    """

    dtype: str | None = None
    compile: bool = False
    train_bn: bool = False
    input_size: int | tuple[int, int] | None = None
    interpolation: str = 'bilinear'

    def __post_init__(self) -> None:
        check_bool('compile', self.compile)
        check_bool('train_bn', self.train_bn)
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ConfigError(
                f'dtype={self.dtype!r}: expected None, which follows the student, or one of '
                f'{[*DTYPES]}; {did_you_mean(str(self.dtype), DTYPES)}'
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(
                f'interpolation={self.interpolation!r}: expected one of {[*INTERPOLATIONS]}; '
                f'{did_you_mean(str(self.interpolation), INTERPOLATIONS)}'
            )
        if not _is_size(self.input_size):
            raise ConfigError(
                f'input_size={self.input_size!r}: expected a number of pixels or (height, width)'
            )

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the teacher's images, None for those of the student's."""
        if isinstance(self.input_size, int):
            return self.input_size, self.input_size
        return self.input_size and tuple(self.input_size)

    @classmethod
    def of(
        cls, given: TeacherOptions | Mapping | None, old: Mapping[str, Any] = MappingProxyType({})
    ) -> TeacherOptions:
        """Return the options that a config gives as a dict, or does not give.

        Args:
            given (TeacherOptions | dict, optional): The options.
            old (dict): Options by the names that the distiller's arguments once had. Defaults to
                none.

        Raises:
            ConfigError: If a key or a value is not valid.
        """
        for name in old:
            if OLD_NAMES[name] is None:
                print_log(f'{name} has no effect any more', 'current', logging.WARNING)
        renamed = {OLD_NAMES[name]: value for name, value in old.items() if OLD_NAMES[name]}
        with config_key('teacher_options'):
            if isinstance(given, cls):
                return replace(given, **renamed)
            if not isinstance(given, (Mapping, type(None))):
                raise ConfigError(f"expected a dict, such as dict(dtype='bf16'), got {given!r}")
            known = [field.name for field in fields(cls)]
            for name in given or ():
                if name not in known:
                    raise ConfigError(f"there is no '{name}'; {did_you_mean(name, known)}")
            return cls(**{**renamed, **(given or {})})

    @contextmanager
    def precision(self, device_type: str) -> Iterator[None]:
        """Run the block in the precision of the options.

        Args:
            device_type (str): The type of the teacher's device.
        """
        if self.dtype is None:
            yield
            return
        dtype = DTYPES[self.dtype]
        half = dtype != torch.float32
        with torch.autocast(device_type, dtype=dtype if half else None, enabled=half):
            yield


def _is_size(value: Any) -> bool:
    if value is None:
        return True
    sides = value if isinstance(value, (list, tuple)) else (value, value)
    return len(sides) == 2 and all(type(side) is int and side > 0 for side in sides)
