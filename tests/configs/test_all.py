"""What holds for every config."""

from __future__ import annotations

import pytest

from tests.configs.reading import FILES, code_lines, name_of


@pytest.mark.parametrize('file', FILES, ids=name_of)
def test_a_config_says_what_it_is_and_no_more(file):
    assert file.read_text().startswith('"""')
    assert code_lines(file) <= 15
