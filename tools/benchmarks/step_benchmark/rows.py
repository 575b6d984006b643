"""What is measured: pairs of models, and the rows of a pair's table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[1]
CONFIGS = BENCHMARKS.parents[1] / 'configs' / 'reviewkd'


@dataclass(frozen=True)
class Job:
    """What one table measures.

    Args:
        pair (str): Name of the pair.
        config (str): Path of the distiller's config.
        image_size (int): Height and width of an image in pixels. Defaults to 416.
        batch_size (int): Images of a step, in each process. Defaults to 2.
        device (str): ``'cpu'`` or ``'cuda'``. Defaults to ``'cpu'``.
        threads (int, optional): Threads of torch in each process. Defaults to None, which means
            torch's choice.
        rounds (int): Rounds that count. Defaults to 5.
    """

    pair: str
    config: str
    image_size: int = 416
    batch_size: int = 2
    device: str = 'cpu'
    threads: int | None = None
    rounds: int = 5


_PAIRS = (
    Job('resnet56_resnet20', f'{CONFIGS}/resnet56_resnet20_cifar100.py', 32, 64),
    Job('resnet32x4_resnet8x4', f'{CONFIGS}/resnet32x4_resnet8x4_cifar100.py', 32, 64),
    Job('wrn40-2_wrn16-2', f'{CONFIGS}/wrn40-2_wrn16-2_cifar100.py', 32, 64),
    Job('resnet34_resnet18', f'{BENCHMARKS}/resnet34_resnet18.py', 224, 8),
    Job('retinanet_r101_r50', f'{CONFIGS}/retinanet_r101_r50_coco.py'),
    Job('mask-rcnn_r101_r50', f'{CONFIGS}/mask-rcnn_r101_r50_coco.py'),
)
PAIRS = {job.pair: job for job in _PAIRS}


class Kind(Enum):
    """What a row runs."""

    STUDENT = 'an ordinary training step of the student alone'
    TEACHER = "the teacher's features"
    FULL_LOSS = "the teacher's losses, which only detectors have"
    TEXTBOOK = 'ABF + HCL as their equations are written'
    TRANSFERS = 'ABF + HCL as the distiller runs them'
    STEP = 'a training step of the distiller'
    SUM = 'nothing: it adds up other rows'


@dataclass(frozen=True)
class Row:
    """A row of the table: what it runs, and the settings of the distiller that it is run with.

    Args:
        name (str): What it is called.
        kind (Kind): What it runs.
        meaning (str): The same in a sentence.
        channels_last (bool): The distiller's setting. Defaults to True.
        teacher_dtype (str, optional): The teacher's option. Defaults to None.
        teacher_compile (bool): The teacher's option. Defaults to False.
        transfers_compile (bool): The distiller's setting. Defaults to False.
        amp (bool): Whether it runs under autocast to bf16. Defaults to False.
        parts (tuple[str, ...]): What a sum adds up. Defaults to none.
    """

    name: str
    kind: Kind
    meaning: str
    channels_last: bool = True
    teacher_dtype: str | None = None
    teacher_compile: bool = False
    transfers_compile: bool = False
    amp: bool = False
    parts: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """Keys of the distiller's config."""
        return dict(
            channels_last=self.channels_last,
            teacher_options=dict(dtype=self.teacher_dtype, compile=self.teacher_compile),
            transfers_compile=self.transfers_compile,
        )

    @property
    def compiled(self) -> bool:
        """Whether a part of it goes through ``torch.compile``."""
        return self.teacher_compile or self.transfers_compile

    @property
    def bf16(self) -> bool:
        """Whether a part of it computes in bf16."""
        return self.amp or self.teacher_dtype == 'bf16'


STUDENT, TEACHER = 'student step', 'teacher features'
FULL_LOSS, TEXTBOOK = 'teacher with its full loss', 'textbook ABF + HCL'
SUM = 'student + teacher + textbook'
SUM_FULL_LOSS = 'sum with the full loss'
STEP_OFF, STEP_DEFAULTS, AMP_EVERYTHING = 'step: all off', 'step: defaults', 'amp: everything on'

ROWS = (
    Row(STUDENT, Kind.STUDENT, 'train_step of the student alone, fp32, default layout'),
    Row(
        TEACHER, Kind.TEACHER, "the teacher's features, fp32, default layout", channels_last=False
    ),
    Row(
        FULL_LOSS,
        Kind.FULL_LOSS,
        "the teacher's own losses, as a toolbox that throws them away computes them",
        channels_last=False,
    ),
    Row(
        TEXTBOOK,
        Kind.TEXTBOOK,
        "ABF and HCL as their equations are written, forward and backward, on the pair's "
        'features, default layout',
        channels_last=False,
    ),
    Row(
        'ABF + HCL',
        Kind.TRANSFERS,
        "the distiller's ABF and HCL, forward and backward, on channels_last features",
    ),
    Row('ABF + HCL, compiled', Kind.TRANSFERS, 'the same compiled', transfers_compile=True),
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
        transfers_compile=True,
        amp=True,
    ),
    Row(SUM, Kind.SUM, 'the yardstick of whole steps', parts=(STUDENT, TEACHER, TEXTBOOK)),
    Row(
        SUM_FULL_LOSS,
        Kind.SUM,
        "the same with the teacher's own losses in place of its features",
        parts=(STUDENT, FULL_LOSS, TEXTBOOK),
    ),
    Row(
        STEP_OFF, Kind.STEP, 'train_step of the distiller, channels_last off', channels_last=False
    ),
    Row(STEP_DEFAULTS, Kind.STEP, 'with its defaults: channels_last'),
    Row('step: teacher in bf16', Kind.STEP, 'with the defaults and this', teacher_dtype='bf16'),
    Row('step: teacher compiled', Kind.STEP, 'with the defaults and this', teacher_compile=True),
    Row(
        'step: transfers compiled',
        Kind.STEP,
        'with the defaults and this',
        transfers_compile=True,
    ),
    Row(
        'step: both compiled',
        Kind.STEP,
        'with the defaults, teacher and transfers compiled',
        teacher_compile=True,
        transfers_compile=True,
    ),
    Row('amp: student step', Kind.STUDENT, 'train_step of the student, bf16 autocast', amp=True),
    Row('amp: defaults', Kind.STEP, 'train_step of the distiller, bf16 autocast', amp=True),
    Row(
        AMP_EVERYTHING,
        Kind.STEP,
        'the same with the teacher in bf16 and both compiled',
        teacher_dtype='bf16',
        teacher_compile=True,
        transfers_compile=True,
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
    rows = [row for row in ROWS if row.kind in kinds and (compiled or not row.compiled)]
    for pattern in patterns:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            names = ', '.join(f"'{row.name}'" for row in rows)
            raise ValueError(f"--rows '{pattern}': expected a pattern of {names}")
    if not patterns:
        return rows
    return [row for row in rows if any(fnmatchcase(row.name, p) for p in patterns)]
