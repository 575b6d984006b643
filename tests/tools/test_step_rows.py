"""Which rows there are, which are chosen, and which options they differ by."""

from __future__ import annotations

import inspect
from dataclasses import asdict

import pytest

from reviewkd_mm.models.distillers import Distiller
from tests.tools.step_benchmark import load

rows = load('step_rows')
BY_NAME = {row.name: row for row in rows.ROWS}


def differences(name: str) -> dict:
    defaults, options = asdict(rows.Options()), asdict(BY_NAME[name].options)
    return {key: value for key, value in options.items() if value != defaults[key]}


def test_the_defaults_are_the_distillers():
    parameters = inspect.signature(Distiller).parameters
    assert asdict(rows.Options()) == {
        key: parameters[key].default for key in asdict(rows.Options())
    }


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        (rows.STEP_OFF, dict(channels_last=False, teacher_fold_bn=False)),
        (rows.TEACHER, dict(channels_last=False, teacher_fold_bn=False)),
        (rows.TEXTBOOK, dict(channels_last=False, teacher_fold_bn=False)),
        (rows.STEP_DEFAULTS, {}),
        ('step: channels_last off', dict(channels_last=False)),
        ('step: teacher_fold_bn off', dict(teacher_fold_bn=False)),
        ('step: teacher in bf16', dict(teacher_dtype='bf16')),
        ('step: teacher compiled', dict(teacher_compile=True)),
        ('step: transfers compiled', dict(transfers_compile=True)),
        ('step: teacher on a stream', dict(teacher_stream=True)),
        ('step: both compiled', dict(teacher_compile=True, transfers_compile=True)),
        ('ABF + HCL', {}),
        ('ABF + HCL, compiled', dict(transfers_compile=True)),
        ('ABF + HCL, bf16', {}),
        ('amp: defaults', {}),
    ],
)
def test_a_row_differs_from_the_defaults_by_what_it_names(name, expected):
    assert differences(name) == expected
    assert BY_NAME[name].amp == (name in ('ABF + HCL, bf16', 'amp: defaults'))


def test_everything_on_leaves_nothing_off():
    assert differences(rows.AMP_EVERYTHING) == dict(
        teacher_dtype='bf16', teacher_compile=True, transfers_compile=True, teacher_stream=True
    )
    assert BY_NAME[rows.AMP_EVERYTHING].amp


def test_names_are_unique_and_sums_add_up_rows():
    assert len(BY_NAME) == len(rows.ROWS)
    parts = {part for row in rows.ROWS for part in row.parts}
    assert parts <= set(BY_NAME)
    assert all(bool(row.parts) == (row.kind is rows.Kind.SUM) for row in rows.ROWS)


def test_which_rows_need_bf16():
    assert {row.name for row in rows.ROWS if row.bf16} == {
        'ABF + HCL, bf16',
        'ABF + HCL, bf16, compiled',
        'step: teacher in bf16',
        'amp: student step',
        'amp: defaults',
        rows.AMP_EVERYTHING,
    }


def test_rows_are_chosen_by_patterns_in_the_order_of_the_table():
    chosen = [row.name for row in rows.select_rows(['amp: [ds]*', 'student*', 'textbook*'])]
    assert chosen == [rows.STUDENT, rows.TEXTBOOK, rows.SUM, 'amp: student step', 'amp: defaults']
    assert rows.select_rows([]) == list(rows.ROWS)


def test_rows_that_compile_are_left_out():
    left_out = set(rows.ROWS) - set(rows.select_rows([], compiled=False))
    assert {row.name for row in left_out} == {
        'ABF + HCL, compiled',
        'ABF + HCL, bf16, compiled',
        'step: teacher compiled',
        'step: transfers compiled',
        'step: both compiled',
        rows.AMP_EVERYTHING,
    }


def test_a_pattern_that_fits_nothing_names_the_rows():
    with pytest.raises(ValueError, match=r"--rows 'bogus': expected .*'step: defaults'"):
        rows.select_rows(['step:*', 'bogus'])
    with pytest.raises(ValueError, match='textbook'):
        rows.select_rows(['textbook*'], kinds=[rows.Kind.STEP])


@pytest.mark.parametrize(
    ('is_detector', 'device', 'missing'),
    [
        (True, 'cuda', set()),
        (True, 'cpu', {'step: teacher on a stream'}),
        (False, 'cuda', {rows.FULL_LOSS, rows.SUM_FULL_LOSS}),
    ],
)
def test_what_a_pair_on_a_device_lacks(is_detector, device, missing):
    has = rows.applicable(rows.ROWS, is_detector, device)
    assert {row.name for row in rows.ROWS} - {row.name for row in has} == missing
