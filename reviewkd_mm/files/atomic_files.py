"""Files that are there wholly or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from reviewkd_mm.errors import RunError

BACKEND = 'reviewkd_mm.atomic'
# What the name of a file ends in until it is whole.
PARTIAL = '.partial'


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file under another name, wait until the disk has it, and rename it.

    A process that is killed on the way leaves the file as it was before.

    Args:
        path (str | Path): The file; its folder is made where it is missing.
        content (bytes): What it holds.

    Raises:
        RuntimeError: If it cannot be written: the disk is full, or the folder is read-only.
    """
    path = Path(path)
    # Several processes may write the same table.
    partial = path.with_name(f'{path.name}.{os.getpid()}{PARTIAL}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        message = _describe(path, len(content), error)
        _remove_quietly(partial)
        raise RunError(message) from error


def write_text(path: str | Path, content: str) -> None:
    """Write a text file likewise.

    Args:
        path (str | Path): The file.
        content (str): Its text, which is stored in UTF-8.

    Raises:
        RuntimeError: If it cannot be written.
    """
    write_bytes(path, content.encode())


def remove_partial(folder: str | Path) -> None:
    """Remove the files that a killed process left unfinished.

    Args:
        folder (str | Path): Where they were written.
    """
    for file in Path(folder).glob(f'*{PARTIAL}'):
        if _process_of(file).isdecimal():  # Anything else is not from here.
            _remove_quietly(file)


@register_backend(BACKEND, force=True)
class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files, which writes each file wholly or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file.

        Args:
            obj (bytes): The content.
            filepath (str | Path): The file.

        Raises:
            RuntimeError: If it cannot be written.
        """
        write_bytes(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text to a file.

        Args:
            obj (str): The content.
            filepath (str | Path): The file.
            encoding (str): Its encoding. Defaults to ``'utf-8'``.

        Raises:
            RuntimeError: If it cannot be written.
        """
        write_bytes(filepath, obj.encode(encoding))


def _process_of(partial: Path) -> str:
    return partial.name.removesuffix(PARTIAL).rpartition('.')[2]


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the names in a folder, where the system can do that."""
    if not hasattr(os, 'O_DIRECTORY'):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _describe(path: Path, size: int, error: OSError) -> str:
    existing = next((folder for folder in path.parents if folder.exists()), Path())
    needed, free = size / 1e6, shutil.disk_usage(existing).free / 1e6
    return (
        f"'{path}' could not be written ({error.strerror or error}): expected a folder that can "
        f'be written to, with {needed:.1f} MB free; {free:.1f} MB are. What was written before '
        'is untouched'
    )


def _remove_quietly(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:  # A read-only folder keeps it; the next training overwrites it.
        return
