"""Errors that are meant for users end a tool as one message instead of a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

REFUSALS = (ValueError, TypeError, RuntimeError, ImportError, FileNotFoundError)
PACKAGE = Path(__file__).resolve().parents[1]


@contextmanager
def readable_errors() -> Iterator[None]:
    """End the process with a message where this package refused what the user asked for.

    A refusal is an error that a ``raise`` of this package made. Any other error, one that an
    operation failed with or that a library raised, keeps its traceback.

    Raises:
        SystemExit: With the message, which Python writes to standard error, and exit code 1.
    """
    try:
        yield
    except REFUSALS as error:
        refusal = find_refusal(error)
        if refusal is None:
            raise
        sys.exit(f'error: {refusal}')


def find_refusal(error: BaseException | None) -> BaseException | None:
    """Return this package's refusal, which a library may have wrapped into an error of its own.

    Args:
        error (BaseException | None): What was caught.

    Returns:
        BaseException | None: The refusal, None if the error is none.
    """
    while error is not None:
        if isinstance(error, REFUSALS) and _is_raised_here(_find_origin(error).__traceback__):
            return error
        error = error.__cause__ or error.__context__
    return None


def _find_origin(error: BaseException) -> BaseException:
    """Return the error that ``reviewkd_mm.utils.config_key`` put a key before."""
    while getattr(error, 'config_key', False) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_raised_here(trace: TracebackType | None) -> bool:
    """Tell whether the last line that ran is a ``raise`` of this package."""
    frames = traceback.extract_tb(trace)
    if not frames:
        return False
    file = Path(frames[-1].filename).resolve()
    return PACKAGE in file.parents and frames[-1].line.startswith('raise')
