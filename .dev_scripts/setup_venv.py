"""Make .venv with the pinned packages and this checkout, or find that it is there already.

`setup_venv.py lowest` makes .venv-lowest with the oldest supported packages, and `highest`
.venv-highest with the newest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
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


class Venv(NamedTuple):
    """A virtual environment of this checkout.

    Args:
        name (str): Of its folder.
        pin_files (tuple[str, ...]): The versions in it; those of a later file take the place of
            those of an earlier one.
        oldest_python (tuple[int, int]): That its packages support. Defaults to (3, 10).
    """

    name: str
    pin_files: tuple[str, ...]
    oldest_python: tuple[int, int] = (3, 10)

    @property
    def folder(self) -> Path:
        """Where it is."""
        return ROOT / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / 'bin' / 'python'

    @property
    def stamp(self) -> Path:
        """Written when the packages are all there: without it the set-up was never finished."""
        return self.folder / 'set-up.json'

    @property
    def pins(self) -> str:
        """All its versions in one file, whose path is relative: pip splits variables at spaces."""
        return f'{self.name}/pins.txt'


PINNED = 'requirements/pinned.txt'
VENVS = {
    'pinned': Venv('.venv', (PINNED,)),
    'lowest': Venv('.venv-lowest', (PINNED, 'requirements/lowest.txt')),
    'highest': Venv('.venv-highest', (PINNED, 'requirements/highest.txt'), (3, 12)),
}


def dotted(version: tuple[int, ...]) -> str:
    """Return the major and the minor version of a Python."""
    return '.'.join(map(str, version[:2]))


def merged_pins(venv: Venv) -> str:
    """Return the versions of all its files as one requirements file."""
    pins = {}
    for name in venv.pin_files:
        lines = (ROOT / name).read_text(encoding='utf-8').splitlines()
        for line in filter(None, (line.partition('#')[0].strip() for line in lines)):
            package = re.split(r'[^\w.-]', line, maxsplit=1)[0]
            pins[re.sub(r'[-_.]+', '-', package).lower()] = line
    return ''.join(f'{line}\n' for line in pins.values())


def digest(paths: list[Path], *texts: str) -> str:
    """Return one SHA-256 of the files' contents and the texts."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(path.read_bytes() + b'\0')
    for text in texts:
        sha.update(text.encode() + b'\0')
    return sha.hexdigest()


def wanted(venv: Venv) -> dict[str, str]:
    """Return what a finished .venv of this checkout has in its stamp.

    The folder is part of it: in a copied checkout .venv would still run the original's code.
    """
    files = [*(ROOT / name for name in venv.pin_files), Path(__file__)]
    return {
        'environment': digest(files, str(venv.folder)),
        'package': digest([ROOT / name for name in PACKAGE_FILES], str(ROOT)),
    }


def found(venv: Venv) -> dict[str, str]:
    """Return the stamp of the .venv that is there, empty where it cannot be used."""
    try:
        stamp = json.loads(venv.stamp.read_text())
        version = subprocess.check_output(
            [venv.python, '-c', 'import sys; print(*sys.version_info[:2])'], text=True
        )
    except (OSError, ValueError, subprocess.CalledProcessError):
        return {}
    # Without PYTHON=... any supported Python will do, so the one that .venv has may stay.
    if os.environ.get('PYTHON') and version.split() != [str(n) for n in sys.version_info[:2]]:
        return {}
    if not (ROOT / 'reviewkd_mm' / '.mim' / 'configs').exists():
        stamp.pop('package', None)
    return stamp


def environment(venv: Venv) -> dict[str, str]:
    """Return the variables that pip runs with.

    The pins bind what packages are built with, too. The user's own settings that would install
    elsewhere, or compile onedl-mmcv, are left out.
    """
    unwanted = {'PYTHONHOME', 'PYTHONPATH', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX'}
    unwanted |= {'PIP_NO_BUILD_ISOLATION', 'PIP_NO_DEPS'}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    pip = {'PIP_CONSTRAINT': venv.pins, 'PIP_BUILD_CONSTRAINT': venv.pins}
    return kept | pip | {'PIP_DISABLE_PIP_VERSION_CHECK': '1'}


def step(venv: Venv, title: str, *command: str | Path) -> None:
    """Run a command silently; say how long it took, or show how it failed and exit."""
    print(f'set-up: {title} ... ', end='', flush=True)
    start = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(venv),
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


def pip_install(venv: Venv, title: str, *arguments: str) -> None:
    """Run ``pip install`` in a virtual environment.

    Nothing is byte-compiled: the first import does that for the modules that are used, which
    are few of those that torch and its company bring.
    """
    options = ('--no-compile', '--progress-bar=off')
    step(venv, title, venv.python, '-m', 'pip', 'install', *options, *arguments)


def make_environment(venv: Venv) -> None:
    """Make a virtual environment anew with its packages."""
    venv.stamp.unlink(missing_ok=True)  # first: a killed removal must not look finished
    if venv.folder.exists():
        shutil.rmtree(venv.folder)
    title = f'{venv.name} with Python {sys.version.split()[0]} ({sys.executable})'
    step(venv, title, sys.executable, '-m', 'venv', venv.folder)
    (ROOT / venv.pins).write_text(merged_pins(venv), encoding='utf-8')
    pip_install(venv, 'PyTorch (a large download the first time)', 'torch', 'torchvision')
    # pip's isolated build finds no torch and makes a pure-Python wheel in seconds; a wheel in
    # pip's cache may have been compiled for another torch.
    pip_install(venv, 'MMCV, without compiling', '--no-deps', '--no-cache-dir', 'onedl-mmcv')
    pip_install(venv, 'the other packages', '--no-deps', '--requirement', venv.pins)


def install_package(venv: Venv) -> None:
    """Install this checkout into a virtual environment, editable."""
    pip_install(venv, 'reviewkd_mm', '--no-deps', '--no-build-isolation', '--editable', '.')


def main(name: str = 'pinned') -> None:
    """Bring a virtual environment to what the checkout wants, with as little work as possible.

    Args:
        name (str): One of ``VENVS``. Defaults to ``'pinned'``.
    """
    if name not in VENVS:
        sys.exit(f'set-up: there is no set of packages {name!r}; expected one of {[*VENVS]}')
    venv = VENVS[name]
    if sys.version_info[:2] < venv.oldest_python:
        sys.exit(
            f'set-up: the {name} set of packages needs Python {dotted(venv.oldest_python)}, '
            f'this is {dotted(sys.version_info)}; name another: '
            f'make test-{name} PYTHON=/path/to/python'
        )
    want, have = wanted(venv), found(venv)
    if have == want:
        return
    start = time.monotonic()
    if have.get('environment') != want['environment']:
        make_environment(venv)
        venv.stamp.write_text(json.dumps({'environment': want['environment']}))
    install_package(venv)
    venv.stamp.write_text(json.dumps(want))
    print(f'set-up: done in {time.monotonic() - start:.0f} s')


if __name__ == '__main__':
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit('\nset-up: interrupted; run it again to start anew')
