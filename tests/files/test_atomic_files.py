"""A file is there wholly or not at all, and an error says why."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from mmengine.fileio import get_file_backend

from reviewkd_mm.files.atomic_files import BACKEND, remove_partial, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / 'a' / 'b' / 'file.pth'

    write_bytes(path, b'first')
    write_bytes(str(path), b'second')
    write_text(path.with_suffix('.txt'), 'äé')

    assert path.read_bytes() == b'second'
    assert path.with_suffix('.txt').read_text(encoding='utf-8') == 'äé'
    assert names(path.parent) == ['file.pth', 'file.txt']


def test_until_it_is_whole_the_old_one_is_there(tmp_path, monkeypatch):
    path, seen = tmp_path / 'file.pth', []
    write_bytes(path, b'first')
    monkeypatch.setattr('os.fsync', lambda descriptor: seen.append(path.read_bytes()))

    write_bytes(path, b'second')

    assert seen == [b'first', b'second'], 'the file is synchronised, then its name'


def test_a_write_that_breaks_off_spoils_nothing(tmp_path):
    path = tmp_path / 'file.pth'
    write_bytes(path, b'first')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(RuntimeError, match=r"file\.pth' could not be written.*1\.0 MB free"):
            write_bytes(path, b'x' * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert path.read_bytes() == b'first'
    assert names(tmp_path) == ['file.pth']


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / 'file').touch()

    with pytest.raises(RuntimeError, match='could not be written'):
        write_bytes(tmp_path / 'file' / 'checkpoint.pth', b'content')


def test_a_read_only_folder_is_an_error(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, 'Read-only file system')

    monkeypatch.setattr(Path, 'open', refuse)

    with pytest.raises(RuntimeError, match=r'Read-only file system.*can be written to'):
        write_bytes(tmp_path / 'file.pth', b'content')


def test_mmengine_finds_the_backend(tmp_path):
    backend = get_file_backend(str(tmp_path), backend_args=dict(backend=BACKEND))

    backend.put(b'content', tmp_path / 'file.pth')
    backend.put_text('é', tmp_path / 'file.txt', encoding='latin-1')

    assert backend.get(tmp_path / 'file.pth') == b'content'
    assert (tmp_path / 'file.txt').read_bytes() == b'\xe9'


def test_only_what_a_process_left_unfinished_is_removed(tmp_path):
    for name in ('a.pth', 'a.pth.77.partial', 'a.py.78.partial', 'notes.partial'):
        (tmp_path / name).touch()

    remove_partial(tmp_path)

    assert names(tmp_path) == ['a.pth', 'notes.partial']
