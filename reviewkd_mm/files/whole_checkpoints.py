"""Find the newest checkpoint that can be read."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from reviewkd_mm.files.safe_loading import DamagedError, check_whole

TEMPLATES = ('epoch_{}.pth', 'iter_{}.pth')


def is_whole(checkpoint: str | Path) -> bool:
    """Tell whether a checkpoint is there and has all of its bytes as they were written.

    Args:
        checkpoint (str | Path): A file of ``torch.save``, which stores a checksum of each tensor;
            or a folder, which cannot be checked.
    """
    path = Path(checkpoint)
    if path.is_dir():
        return True
    try:
        check_whole(path)
        return zipfile.is_zipfile(path)
    except (OSError, DamagedError):
        return False


def last_named(work_dir: str | Path) -> str | None:
    """Return the checkpoint that the file ``last_checkpoint`` names, None if it names none.

    Args:
        work_dir (str | Path): The training's folder, which may have been moved since.
    """
    try:
        name = Path(work_dir, 'last_checkpoint').read_text(errors='replace').strip()
    except OSError:
        return None
    if not name:
        return None
    moved = Path(work_dir, Path(name).name)
    return str(moved) if moved.exists() and not Path(name).exists() else name


def numbered(folder: str | Path, template: str | None = None) -> list[Path]:
    """Return the checkpoints of a folder that are named by epoch or iteration, newest first.

    Args:
        folder (str | Path): The folder.
        template (str | None): CheckpointHook's ``filename_tmpl``. Defaults to None, which means
            MMEngine's two.
    """
    templates = TEMPLATES if template is None else (template,)
    patterns = [re.escape(name).replace(r'\{\}', r'(\d+)') for name in templates]
    found = []
    for file in Path(folder).glob('*'):
        matches = [re.fullmatch(pattern, file.name) for pattern in patterns]
        found += [(int(match[1]), file) for match in matches if match]
    return [file for _, file in sorted(found, reverse=True)]


def find_newest(work_dir: str | Path, template: str | None = None) -> tuple[str | None, list[str]]:
    """Find the checkpoint that a training goes on from.

    Args:
        work_dir (str | Path): The training's folder.
        template (str | None): CheckpointHook's ``filename_tmpl``. Defaults to None.

    Returns:
        tuple[str | None, list[str]]: The checkpoint that was saved last or, if it is not whole,
        the newest that is; None if there is none; and those that were passed over.
    """
    named = last_named(work_dir)
    if named is not None and '://' in named:
        return named, []
    folder = work_dir if named is None else Path(named).parent
    candidates = [] if named is None else [named]
    candidates += [str(file) for file in numbered(folder, template)]
    passed_over: list[str] = []
    for checkpoint in dict.fromkeys(candidates):
        if is_whole(checkpoint):
            return checkpoint, passed_over
        passed_over.append(checkpoint)
    return None, passed_over
