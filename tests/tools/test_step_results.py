"""The arithmetic of the benchmark's table."""

from __future__ import annotations

import pytest

from tests.tools.step_benchmark import load

results, rows, timing = load('step_results'), load('step_rows'), load('step_timing')
job = load('step_pairs').Job('pair', 'pair.py', 32, 64, rounds=3)
SECONDS = {
    rows.STUDENT: 4.0,
    rows.TEACHER: 2.0,
    rows.FULL_LOSS: 6.0,
    rows.TEXTBOOK: 10.0,
    'ABF + HCL': 5.0,
    rows.STEP_DEFAULTS: 12.0,
    'amp: student step': 2.0,
    'amp: defaults': 8.0,
}


def summarize(patterns: list[str], seconds: dict, peaks: dict | None = None, notes=()) -> dict:
    """Summarise rounds of one, two and six times the given seconds, all with half the CPU time."""
    timings = {
        name: [timing.Timing(factor * s, factor * s / 2) for factor in (1, 6, 2)]
        for name, s in seconds.items()
    }
    chosen = rows.select_rows(patterns)
    table = results.summarize(chosen, timings, peaks or {}, dict(notes))
    return {result.name: result for result in table}


def test_medians_minima_and_spread():
    student = summarize(['student step'], SECONDS)[rows.STUDENT]
    assert student.wall.to_dict() == dict(median=8, minimum=4, maximum=24, spread=20)
    assert student.cpu.to_dict() == dict(median=4, minimum=2, maximum=12, spread=10)


def test_sums_and_what_each_row_is_compared_with():
    table = summarize([*SECONDS, 'student + *', 'sum with*'], SECONDS)

    assert list(table) == [row.name for row in rows.ROWS if row.name in table]
    assert table[rows.SUM].wall.median == 2 * (4 + 2 + 10)
    assert table[rows.SUM].cpu.minimum == (4 + 2 + 10) / 2
    assert table[rows.SUM_FULL_LOSS].wall.median == 2 * (4 + 6 + 10)
    ratios = {
        name: (row.x_student, row.x_yardstick, row.x_full_loss) for name, row in table.items()
    }
    assert ratios == {
        rows.STUDENT: (1, None, None),
        rows.TEACHER: (0.5, None, None),
        rows.FULL_LOSS: (1.5, None, None),
        rows.TEXTBOOK: (2.5, None, None),
        'ABF + HCL': (1.25, 0.5, None),
        rows.SUM: (4, None, None),
        rows.SUM_FULL_LOSS: (5, None, None),
        rows.STEP_DEFAULTS: (3, 0.75, 0.6),
        'amp: student step': (0.5, None, None),
        'amp: defaults': (2, 0.5, 0.4),
    }


def test_what_was_not_measured_has_no_ratio():
    seconds = {rows.STEP_DEFAULTS: 3.0, rows.TEACHER: 1.0}
    table = summarize(['step: defaults', 'teacher features', 'student + *', 'amp: *'], seconds)
    assert list(table) == [
        rows.TEACHER,
        rows.STEP_DEFAULTS,
        'amp: student step',
        'amp: defaults',
        rows.AMP_EVERYTHING,
    ]
    assert table[rows.STEP_DEFAULTS].x_student is table[rows.STEP_DEFAULTS].x_yardstick is None
    assert table['amp: defaults'].wall is None
    assert table['amp: defaults'].note == 'n/a'
    assert table[rows.TEACHER].note == ''


def test_memory_and_notes_belong_to_their_row():
    table = summarize(
        ['student step', 'ABF + HCL'], SECONDS, {'ABF + HCL': 12.5}, {'ABF + HCL': 'so it is'}
    )
    assert [row.memory for row in table.values()] == [None, 12.5]
    assert [row.note for row in table.values()] == ['', 'so it is']


@pytest.mark.parametrize(
    ('processes', 'title'),
    [
        (None, 'pair: 64 images of 32 px'),
        (2, 'pair: 64 images of 32 px in each of 2 processes'),
    ],
)
def test_title(processes, title):
    assert results.Results(job, processes=processes).title == title
