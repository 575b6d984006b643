"""Errors that are meant for users: a tool shows their message and nothing else."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import torch

# What a class raises at a setting that it cannot use.
WRONG_SETTING = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    URLError,
    ValueError,
)


class UserError(Exception):
    """What was asked for cannot be done; the message says why, and what was expected.

    Args:
        message (str): The message, without the config key that :func:`config_key` adds.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.key = ''

    def __str__(self) -> str:
        return f'{self.key}: {self.args[0]}' if self.key else str(self.args[0])


class ConfigError(UserError, ValueError):
    """A setting, or what it names, cannot be used."""


class MissingFileError(UserError, FileNotFoundError):
    """A file that was named is not there."""


class RunError(UserError, RuntimeError):
    """A file, or a training that has started, is not as it should be."""


@contextmanager
def config_key(key: str, kinds: tuple[type[Exception], ...] = WRONG_SETTING) -> Iterator[None]:
    """Put a config key before the message of an error that is raised inside the block.

    Args:
        key (str): The key, for example ``'transfers.review'``.
        kinds (tuple[type[Exception], ...]): Which errors of libraries become a ConfigError; others
            pass. In training that is ValueError alone. Defaults to all that a wrong setting may
            raise.

    Raises:
        UserError: The error of the block, or a ConfigError in place of a library's.
    """
    try:
        yield
    except UserError as error:
        error.key = f'{key}.{error.key}' if error.key else key
        raise
    except torch.OutOfMemoryError:
        raise
    except kinds as error:
        renamed = ConfigError(_describe(error))
        renamed.key = key
        raise renamed from error


def _describe(error: Exception) -> str:
    """Return an error of a library in one line: many say what was wrong, few of what."""
    text = f'{type(error).__name__}: {error}'.removesuffix(': ')
    if isinstance(error, ValueError):
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{text} (at '{frame.line}', {Path(frame.filename).name}:{frame.lineno})"


def find_user_error(error: BaseException | None) -> UserError | None:
    """Return the user's error that a library may have wrapped into one of its own.

    Args:
        error (BaseException | None): What was caught.

    Returns:
        UserError | None: The error, None if there is none.
    """
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error
