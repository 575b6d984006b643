"""Errors that are meant for users end a tool as one message instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from reviewkd_mm.config.explain import REFUSALS, find_refusal


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
