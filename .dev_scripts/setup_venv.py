"""Make .venv with the pinned packages and this checkout, or find that it is there already."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
VENV_PYTHON = VENV / 'bin' / 'python'
# Written when the packages are all there, so a .venv without it was never finished.
STAMP = VENV / 'set-up.json'
# Relative, since pip splits the variables that carry it at spaces.
PINNED = 'requirements/pinned.txt'
LINES_OF_ERROR = 60
# What decides the metadata and the links of the installed checkout.
PACKAGE_FILES = (
    'setup.py',
    'reviewkd_mm/version.py',
    'requirements/runtime.txt',
    'requirements/mminstall.txt',
    'requirements/tests.txt',
    'requirements/docs.txt',
    'requirements/optional.txt',
)


def digest(paths: list[Path], *texts: str) -> str:
    """Return one SHA-256 of the files' contents and the texts."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(path.read_bytes() + b'\0')
    for text in texts:
        sha.update(text.encode() + b'\0')
    return sha.hexdigest()


def wanted() -> dict[str, str]:
    """Return what a finished .venv of this checkout has in its stamp.

    The folder is part of it: in a copied checkout .venv would still run the original's code.
    """
    return {
        'environment': digest([ROOT / PINNED, Path(__file__)], str(VENV)),
        'package': digest([ROOT / name for name in PACKAGE_FILES], str(ROOT)),
    }


def found() -> dict[str, str]:
    """Return the stamp of the .venv that is there, empty where it cannot be used."""
    try:
        stamp = json.loads(STAMP.read_text())
        version = subprocess.check_output(
            [VENV_PYTHON, '-c', 'import sys; print(*sys.version_info[:2])'], text=True
        )
    except (OSError, ValueError, subprocess.CalledProcessError):
        return {}
    # Without PYTHON=... any supported Python will do, so the one that .venv has may stay.
    if os.environ.get('PYTHON') and version.split() != [str(n) for n in sys.version_info[:2]]:
        return {}
    if not (ROOT / 'reviewkd_mm' / '.mim' / 'configs').exists():
        stamp.pop('package', None)
    return stamp


def environment() -> dict[str, str]:
    """Return the variables that pip runs with.

    The pins bind what packages are built with, too. The user's own settings that would install
    elsewhere, or compile onedl-mmcv, are left out.
    """
    unwanted = {'PYTHONHOME', 'PYTHONPATH', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX'}
    unwanted |= {'PIP_NO_BUILD_ISOLATION', 'PIP_NO_DEPS'}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    pip = {'PIP_CONSTRAINT': PINNED, 'PIP_BUILD_CONSTRAINT': PINNED}
    return kept | pip | {'PIP_DISABLE_PIP_VERSION_CHECK': '1'}


def step(title: str, *command: str | Path) -> None:
    """Run a command silently; say how long it took, or show how it failed and exit."""
    print(f'set-up: {title} ... ', end='', flush=True)
    start = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    if done.returncode:
        print('failed', *done.stdout.splitlines()[-LINES_OF_ERROR:], sep='\n', flush=True)
        sys.exit(f'set-up: {title} failed; the lines above say why. Run it again to try again.')
    print(f'{time.monotonic() - start:.0f} s', flush=True)


def pip_install(title: str, *arguments: str) -> None:
    """Run ``pip install`` in .venv.

    Nothing is byte-compiled: the first import does that for the modules that are used, which
    are few of those that torch and its company bring.
    """
    options = ('--no-compile', '--progress-bar=off')
    step(title, VENV_PYTHON, '-m', 'pip', 'install', *options, *arguments)


def make_environment() -> None:
    """Make .venv anew with the pinned packages."""
    STAMP.unlink(missing_ok=True)  # first: a killed removal must not look finished
    if VENV.exists():
        shutil.rmtree(VENV)
    version = sys.version.split()[0]
    step(f'.venv with Python {version} ({sys.executable})', sys.executable, '-m', 'venv', VENV)
    pip_install('PyTorch (a large download the first time)', 'torch', 'torchvision')
    # pip's isolated build finds no torch and makes a pure-Python wheel in seconds; a wheel in
    # pip's cache may have been compiled for another torch.
    pip_install('MMCV, without compiling', '--no-deps', '--no-cache-dir', 'onedl-mmcv')
    pip_install('the other packages', '--no-deps', '--requirement', PINNED)


def install_package() -> None:
    """Install this checkout into .venv, editable."""
    pip_install('reviewkd_mm', '--no-deps', '--no-build-isolation', '--editable', '.')


def main() -> None:
    """Bring .venv to what the checkout wants, with as little work as possible."""
    want, have = wanted(), found()
    if have == want:
        return
    start = time.monotonic()
    if have.get('environment') != want['environment']:
        make_environment()
        STAMP.write_text(json.dumps({'environment': want['environment']}))
    install_package()
    STAMP.write_text(json.dumps(want))
    print(f'set-up: done in {time.monotonic() - start:.0f} s')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('\nset-up: interrupted; run it again to start anew')
