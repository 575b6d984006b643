"""Every mutation of a good config trains, or ends with a message that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stress.mutations import CASES, TRAINS, Case, check
from tests.stress.trainings import PAIRS, write_data

pytestmark = pytest.mark.stress


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'))


@pytest.mark.parametrize('pair', PAIRS)
def test_the_good_config_trains(pair, data, tmp_path):
    check(Case(pair, {}, TRAINS), data, tmp_path)


@pytest.mark.parametrize('case', CASES.values(), ids=CASES.keys())
def test_a_mutation_ends_as_it_should(case, data, tmp_path):
    check(case, data, tmp_path)
