"""What judges floating-point results can fail."""

from __future__ import annotations

import pytest
import torch

from tests.numbers import assert_close64, assert_within_rounding, distance

EXACT = torch.linspace(1, 2, 100, dtype=torch.float64)
PLAIN = EXACT.float()


def test_distances_are_relative_to_the_norm_and_the_greatest_counts():
    actual, exact = dict(b=[EXACT, 3 * EXACT], a=EXACT), dict(a=EXACT, b=[EXACT, 2 * EXACT])
    assert distance(actual, exact) == pytest.approx(0.5)
    assert distance(torch.ones(4), torch.zeros(4)) == 2


@pytest.mark.parametrize('factor', [1 + 1e-8, torch.nan, torch.inf])
def test_float64_is_held_to_its_rounding(factor):
    assert_close64(EXACT * (1 + 1e-10), EXACT)
    with pytest.raises(AssertionError, match='off by'):
        assert_close64(factor * EXACT, EXACT)


def test_float32_is_not_taken_for_float64():
    with pytest.raises(AssertionError, match='where float64 is meant'):
        assert_close64(PLAIN, PLAIN)


@pytest.mark.parametrize('factor', [1 + 2e-6, torch.nan])
def test_float32_may_round_somewhat_worse_than_the_plain_form_and_no_more(factor):
    assert_within_rounding(PLAIN * (1 + 2e-7), PLAIN, EXACT)
    with pytest.raises(AssertionError, match='and the plain form by'):
        assert_within_rounding(PLAIN * factor, PLAIN, EXACT)


@pytest.mark.parametrize('plain', [1.2 * PLAIN, PLAIN * torch.inf])
def test_a_plain_form_that_is_wrong_itself_judges_nothing(plain):
    with pytest.raises(AssertionError, match='nothing is tested'):
        assert_within_rounding(PLAIN, plain, EXACT)


@pytest.mark.parametrize('other', [dict(a=EXACT), [EXACT, EXACT], EXACT[:1]])
def test_shapes_and_structures_must_be_the_same(other):
    with pytest.raises(AssertionError):
        distance(other, EXACT)
