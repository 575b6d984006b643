"""The rows of the benchmark's table: what each one runs, and what its time is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Options:
    """The distiller's settings of speed; the defaults are the distiller's own."""

    channels_last: bool = True
    teacher_dtype: str | None = None
    teacher_fold_bn: bool = True
    teacher_compile: bool = False
    transfers_compile: bool = False
    teacher_stream: bool = False


class Kind(Enum):
    """What a row runs."""

    STUDENT = 'an ordinary training step of the student alone'
    TEACHER = "the teacher's features"
    FULL_LOSS = "the teacher's losses"
    TEXTBOOK = 'ABF + HCL as their equations are written'
    TRANSFERS = 'ABF + HCL as the distiller runs them'
    STEP = 'a training step of the distiller'
    SUM = 'nothing: it adds up other rows'


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name (str): What it is called.
        kind (Kind): What it runs.
        meaning (str): The same in a sentence.
        options (Options): The distiller's settings. Defaults to the distiller's own.
        amp (bool): Whether it runs under autocast to bf16. Defaults to False.
        parts (tuple[str, ...]): What a sum adds up. Defaults to none.
        only (str): ``'detector'`` or ``'cuda'``: what alone has the row. Defaults to any.
    """

    name: str
    kind: Kind
    meaning: str
    options: Options = Options()
    amp: bool = False
    parts: tuple[str, ...] = ()
    only: str = ''

    @property
    def compiled(self) -> bool:
        """Whether a part of it goes through ``torch.compile``."""
        return self.options.teacher_compile or self.options.transfers_compile

    @property
    def bf16(self) -> bool:
        """Whether a part of it computes in bf16."""
        return self.amp or self.options.teacher_dtype == 'bf16'


ALL_OFF = Options(channels_last=False, teacher_fold_bn=False)
COMPILED = Options(teacher_compile=True, transfers_compile=True)
EVERYTHING = Options(
    teacher_dtype='bf16', teacher_compile=True, transfers_compile=True, teacher_stream=True
)

STUDENT, TEACHER = 'student step', 'teacher features'
FULL_LOSS, TEXTBOOK = 'teacher with its full loss', 'textbook ABF + HCL'
SUM = 'student + teacher + textbook'
SUM_FULL_LOSS = 'sum with the full loss'
STEP_OFF, STEP_DEFAULTS, AMP_EVERYTHING = 'step: all off', 'step: defaults', 'amp: everything on'

ROWS = (
    Row(
        STUDENT,
        Kind.STUDENT,
        'train_step of the student alone, fp32, default layout',
    ),
    Row(
        TEACHER,
        Kind.TEACHER,
        "the teacher's features, fp32, default layout, all options off",
        ALL_OFF,
    ),
    Row(
        FULL_LOSS,
        Kind.FULL_LOSS,
        "the teacher's own losses, as a toolbox that throws them away computes them",
        ALL_OFF,
        only='detector',
    ),
    Row(
        TEXTBOOK,
        Kind.TEXTBOOK,
        "ABF and HCL as their equations are written, forward and backward, on the pair's "
        'features, default layout',
        ALL_OFF,
    ),
    Row(
        'ABF + HCL',
        Kind.TRANSFERS,
        "the distiller's ABF and HCL, forward and backward, on channels_last features",
    ),
    Row(
        'ABF + HCL, compiled',
        Kind.TRANSFERS,
        'the same under torch.compile',
        Options(transfers_compile=True),
    ),
    Row(
        'ABF + HCL, bf16',
        Kind.TRANSFERS,
        'the same under autocast, on the features that a step under autocast gives',
        amp=True,
    ),
    Row(
        'ABF + HCL, bf16, compiled',
        Kind.TRANSFERS,
        'the same with both',
        EVERYTHING,
        amp=True,
    ),
    Row(
        SUM,
        Kind.SUM,
        'the yardstick of whole steps',
        parts=(STUDENT, TEACHER, TEXTBOOK),
    ),
    Row(
        SUM_FULL_LOSS,
        Kind.SUM,
        "the same with the teacher's own losses in place of its features",
        parts=(STUDENT, FULL_LOSS, TEXTBOOK),
        only='detector',
    ),
    Row(
        STEP_OFF,
        Kind.STEP,
        'train_step of the distiller, channels_last and teacher_fold_bn off',
        ALL_OFF,
    ),
    Row(
        STEP_DEFAULTS,
        Kind.STEP,
        'with its defaults: channels_last and teacher_fold_bn',
    ),
    Row(
        'step: channels_last off',
        Kind.STEP,
        'with the defaults but this',
        Options(channels_last=False),
    ),
    Row(
        'step: teacher_fold_bn off',
        Kind.STEP,
        'with the defaults but this',
        Options(teacher_fold_bn=False),
    ),
    Row(
        'step: teacher in bf16',
        Kind.STEP,
        "with the defaults and teacher_dtype='bf16'",
        Options(teacher_dtype='bf16'),
    ),
    Row(
        'step: teacher compiled',
        Kind.STEP,
        'with the defaults and teacher_compile',
        Options(teacher_compile=True),
    ),
    Row(
        'step: transfers compiled',
        Kind.STEP,
        'with the defaults and transfers_compile',
        Options(transfers_compile=True),
    ),
    Row(
        'step: teacher on a stream',
        Kind.STEP,
        'with the defaults and teacher_stream',
        Options(teacher_stream=True),
        only='cuda',
    ),
    Row(
        'step: both compiled',
        Kind.STEP,
        'with the defaults, teacher_compile and transfers_compile',
        COMPILED,
    ),
    Row(
        'amp: student step',
        Kind.STUDENT,
        'train_step of the student alone under bf16 autocast',
        amp=True,
    ),
    Row(
        'amp: defaults',
        Kind.STEP,
        'train_step of the distiller under bf16 autocast',
        amp=True,
    ),
    Row(
        AMP_EVERYTHING,
        Kind.STEP,
        "the same with teacher_dtype='bf16', both compiled and, on a GPU, teacher_stream",
        EVERYTHING,
        amp=True,
    ),
)


def select_rows(
    patterns: Sequence[str], compiled: bool = True, kinds: Iterable[Kind] = Kind
) -> list[Row]:
    """Choose rows by their names.

    Args:
        patterns (Sequence[str]): Patterns with ``*``, ``?`` and ``[...]``; none choose all rows.
        compiled (bool): Whether rows that compile may be among them. Defaults to True.
        kinds (Iterable[Kind]): What they may run. Defaults to anything.

    Returns:
        list[Row]: The rows, in the order of the table.

    Raises:
        ValueError: If a pattern fits no row.
    """
    kinds = set(kinds)
    rows = [row for row in ROWS if row.kind in kinds and (compiled or not row.compiled)]
    for pattern in patterns:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            names = ', '.join(f"'{row.name}'" for row in rows)
            raise ValueError(f"--rows '{pattern}': expected a pattern of {names}")
    if not patterns:
        return rows
    return [row for row in rows if any(fnmatchcase(row.name, p) for p in patterns)]


def applicable(rows: Iterable[Row], is_detector: bool, device: str) -> list[Row]:
    """Keep the rows that a pair has on a device.

    Args:
        rows (Iterable[Row]): Rows.
        is_detector (bool): Whether the pair detects objects.
        device (str): ``'cpu'`` or ``'cuda'``.
    """
    has = {'': True, 'detector': is_detector, 'cuda': device == 'cuda'}
    return [row for row in rows if has[row.only]]
