"""Errors that are meant for users end a tool as one message instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from reviewkd_mm.errors import find_user_error


@contextmanager
def readable_errors() -> Iterator[None]:
    """End the process with a message where what the user asked for cannot be done.

    Any error that is no :class:`UserError`, nor was raised because of one, keeps its traceback.

    Raises:
        SystemExit: With the message, which Python writes to standard error, and exit code 1.
    """
    try:
        yield
    except Exception as error:
        found = find_user_error(error)
        if found is None:
            raise
        sys.exit(f'error: {found}')
