"""Errors for users: what they are, and the config key that is put before them."""

from __future__ import annotations

import pytest
import torch

from reviewkd_mm.errors import (
    ConfigError,
    MissingFileError,
    RunError,
    UserError,
    config_key,
    find_user_error,
)


@pytest.mark.parametrize(
    ('kind', 'base'),
    [(ConfigError, ValueError), (MissingFileError, FileNotFoundError), (RunError, RuntimeError)],
)
def test_an_error_of_ours_keeps_its_class_and_gets_a_key(kind, base):
    error = kind('wrong')
    with pytest.raises(base, match=r'^loss: wrong$') as info, config_key('loss'):
        raise error
    assert info.value is error


def test_config_keys_are_joined_by_dots():
    message = r'^transfers\.review\.student: there is no tap$'
    with pytest.raises(ConfigError, match=message), config_key('transfers.review'):  # noqa: SIM117
        with config_key('student'):
            raise ConfigError('there is no tap')


@pytest.mark.parametrize('error', [KeyError('depth'), ZeroDivisionError(), ValueError('depth')])
def test_an_error_of_a_library_becomes_one_of_the_config(error):
    where = '' if isinstance(error, ValueError) else r" \(at 'raise error', test_errors\.py:\d+\)"
    text = f': {error}' if str(error) else ''
    message = rf'^teacher\.neck: {type(error).__name__}{text}{where}$'
    with pytest.raises(ConfigError, match=message) as info, config_key('teacher'):  # noqa: SIM117
        with config_key('neck'):
            raise error
    assert info.value.__cause__ is error


@pytest.mark.parametrize('error', [OSError('disk full'), torch.OutOfMemoryError('no memory')])
def test_an_error_that_no_setting_causes_passes(error):
    with pytest.raises(type(error)) as info, config_key('loss'):
        raise error
    assert info.value is error


def test_only_some_errors_of_libraries_may_be_asked_for():
    kinds = (ValueError,)
    with pytest.raises(ConfigError, match=r'^loss: ValueError: '), config_key('loss', kinds):
        int('one')
    with pytest.raises(IndexError), config_key('loss', kinds):
        [][0]


def test_an_error_of_ours_is_found_in_a_librarys():
    def wrap(explicit: bool) -> None:
        try:
            raise ConfigError('wrong')
        except ConfigError as error:
            if explicit:
                raise KeyError('x') from error
            raise KeyError('x')  # noqa: B904

    for explicit in (False, True):
        with pytest.raises(KeyError) as info:
            wrap(explicit)
        assert isinstance(find_user_error(info.value), UserError)
    assert find_user_error(KeyError('x')) is None
