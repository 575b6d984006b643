"""When `make setup` reuses .venv, when it makes it anew, and which Python it takes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / '.dev_scripts'


@pytest.fixture
def setup_venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script in a copy of the checkout whose .venv looks finished."""
    monkeypatch.delenv('PYTHON', raising=False)
    shutil.copytree(SCRIPTS, tmp_path / '.dev_scripts')
    shutil.copytree(ROOT / 'requirements', tmp_path / 'requirements')
    shutil.copy2(ROOT / 'setup.py', tmp_path)
    (tmp_path / 'reviewkd_mm' / '.mim' / 'configs').mkdir(parents=True)
    shutil.copy2(ROOT / 'reviewkd_mm' / 'version.py', tmp_path / 'reviewkd_mm')
    (tmp_path / '.venv' / 'bin').mkdir(parents=True)
    (tmp_path / '.venv' / 'bin' / 'python').symlink_to(sys.executable)
    module = load(tmp_path)
    module.STAMP.write_text(json.dumps(module.wanted()))
    return module


def load(root: Path) -> ModuleType:
    """Import the script of a checkout."""
    path = root / '.dev_scripts' / 'setup_venv.py'
    spec = importlib.util.spec_from_file_location('setup_venv', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def work_done(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the script and return which of its parts it ran."""
    done: list[str] = []
    monkeypatch.setattr(module, 'make_environment', lambda: done.append('environment'))
    monkeypatch.setattr(module, 'install_package', lambda: done.append('package'))
    module.main()
    return done


def test_finished_venv_is_reused(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert work_done(setup_venv, monkeypatch) == []
    assert capsys.readouterr().out == ''


def test_killed_install_is_made_anew(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_venv.STAMP.unlink()
    assert work_done(setup_venv, monkeypatch) == ['environment', 'package']
    assert work_done(setup_venv, monkeypatch) == []


def test_damaged_stamp_is_made_anew(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_venv.STAMP.write_text('{"environment": ')
    assert work_done(setup_venv, monkeypatch) == ['environment', 'package']


def test_vanished_python_is_made_anew(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setup_venv.VENV_PYTHON.unlink()
    setup_venv.VENV_PYTHON.symlink_to(tmp_path / 'gone')
    assert work_done(setup_venv, monkeypatch) == ['environment', 'package']


def test_copied_checkout_is_made_anew(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / 'copy'
    shutil.copytree(tmp_path, copy, symlinks=True, ignore=shutil.ignore_patterns('copy'))
    assert work_done(load(copy), monkeypatch) == ['environment', 'package']


def test_changed_pin_is_made_anew(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open(tmp_path / 'requirements' / 'pinned.txt', 'a') as pins:
        pins.write('some-package==1.0\n')
    assert work_done(setup_venv, monkeypatch) == ['environment', 'package']


@pytest.mark.parametrize(
    'name', ['setup.py', 'reviewkd_mm/version.py', 'requirements/runtime.txt']
)
def test_changed_package_is_installed_again_alone(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    with open(tmp_path / name, 'a') as file:
        file.write('# changed\n')
    assert work_done(setup_venv, monkeypatch) == ['package']


def test_removed_links_are_made_again(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / 'reviewkd_mm' / '.mim')
    assert work_done(setup_venv, monkeypatch) == ['package']


def test_chosen_python_of_another_version_is_made_anew(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('PYTHON', sys.executable)
    assert work_done(setup_venv, monkeypatch) == []
    monkeypatch.setattr(setup_venv.sys, 'version_info', (3, 99, 0))
    assert work_done(setup_venv, monkeypatch) == ['environment', 'package']


def test_removal_starts_with_the_stamp(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_venv.shutil, 'rmtree', killed)
    with pytest.raises(KeyboardInterrupt):
        setup_venv.make_environment()
    assert setup_venv.found() == {}


def test_failed_step_shows_what_was_printed(
    setup_venv: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match='trying failed'):
        setup_venv.step('trying', sys.executable, '-c', 'print("no room"); raise SystemExit(3)')
    assert 'no room' in capsys.readouterr().out


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A folder for PATH with what the shell script needs and no Python."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in ('sh', 'dirname'):
        (folder / name).symlink_to(shutil.which(name))
    return folder


def write_script(path: Path, text: str) -> None:
    """Write an executable shell script."""
    path.write_text(f'#!{shutil.which("sh")}\n{text}\n')
    path.chmod(0o755)


def find_python(path: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run the script that finds a Python and hands over to it."""
    return subprocess.run(
        [path / 'sh', SCRIPTS / 'setup_venv.sh'],
        env={'PATH': str(path), **variables},
        capture_output=True,
        text=True,
    )


def test_no_python_is_one_line(bare_path: Path) -> None:
    run = find_python(bare_path)
    assert run.returncode == 1
    assert run.stderr.startswith('set-up: no Python 3.10, 3.11 or 3.12')
    assert len(run.stderr.splitlines()) == 1


def test_names_that_do_not_run_are_passed_over(bare_path: Path) -> None:
    write_script(bare_path / 'python3.11', 'echo "python3.11: command not found" >&2; exit 127')
    # Any Python passes the probe here: it runs and says yes.
    write_script(bare_path / 'python3', 'case "$1" in -c) exit 0;; *) echo "took $0";; esac')
    run = find_python(bare_path)
    assert run.stdout.strip() == f'took {bare_path / "python3"}'
    assert run.stderr == ''


def test_probe_runs_the_python_that_runs_the_tests(bare_path: Path) -> None:
    os.symlink(sys.executable, bare_path / 'python3')
    text = (SCRIPTS / 'setup_venv.sh').read_text()
    probe = text.split("-c '")[1].split("'")[0]
    assert subprocess.run([sys.executable, '-c', probe]).returncode == 0
    old = probe.replace('sys.version_info', '(3, 9, 18)')
    new = probe.replace('sys.version_info', '(3, 13, 0)')
    assert subprocess.run([sys.executable, '-c', old]).returncode == 1
    assert subprocess.run([sys.executable, '-c', new]).returncode == 1


def test_chosen_python_that_does_not_fit_is_one_line(bare_path: Path) -> None:
    write_script(bare_path / 'python3', 'exit 0')
    run = find_python(bare_path, PYTHON='no-such-python')
    assert run.returncode == 1
    assert run.stderr.startswith('set-up: PYTHON=no-such-python is not a Python 3.10')
    assert len(run.stderr.splitlines()) == 1
