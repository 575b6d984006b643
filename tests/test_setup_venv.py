"""When `make setup` reuses .venv, when it makes it anew, which Python and packages it takes."""

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
from packaging.requirements import Requirement
from packaging.version import Version

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
    stamp_of(module).write_text(json.dumps(module.wanted(module.VENVS['pinned'])))
    return module


def stamp_of(module: ModuleType, name: str = 'pinned') -> Path:
    """Return the file that says that a virtual environment is finished."""
    return module.VENVS[name].stamp


def load(root: Path) -> ModuleType:
    """Import the script of a checkout."""
    path = root / '.dev_scripts' / 'setup_venv.py'
    spec = importlib.util.spec_from_file_location('setup_venv', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def work_done(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str = 'pinned'
) -> list[str]:
    """Run the script for a set of packages and return which of its parts it ran."""
    done: list[str] = []

    def make(venv: tuple) -> None:
        assert venv is module.VENVS[name]
        venv.folder.mkdir(exist_ok=True)
        done.append('environment')

    monkeypatch.setattr(module, 'make_environment', make)
    monkeypatch.setattr(module, 'install_package', lambda venv: done.append('package'))
    module.main(name)
    return done


def test_finished_venv_is_reused(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert work_done(setup_venv, monkeypatch) == []
    assert capsys.readouterr().out == ''


def test_killed_install_is_made_anew(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp_of(setup_venv).unlink()
    assert work_done(setup_venv, monkeypatch) == ['environment', 'package']
    assert work_done(setup_venv, monkeypatch) == []


def test_damaged_stamp_is_made_anew(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp_of(setup_venv).write_text('{"environment": ')
    assert work_done(setup_venv, monkeypatch) == ['environment', 'package']


def test_vanished_python_is_made_anew(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = setup_venv.VENVS['pinned'].python
    python.unlink()
    python.symlink_to(tmp_path / 'gone')
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
        setup_venv.make_environment(setup_venv.VENVS['pinned'])
    assert setup_venv.found(setup_venv.VENVS['pinned']) == {}


def test_failed_step_shows_what_was_printed(
    setup_venv: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match='trying failed'):
        setup_venv.step(
            setup_venv.VENVS['pinned'],
            'trying',
            sys.executable,
            '-c',
            'print("no room"); raise SystemExit(3)',
        )
    assert 'no room' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['lowest', 'highest'])
def test_other_sets_have_a_venv_of_their_own(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr(setup_venv.sys, 'version_info', (3, 12, 1))
    assert work_done(setup_venv, monkeypatch, name) == ['environment', 'package']

    assert stamp_of(setup_venv, name) == tmp_path / f'.venv-{name}' / 'set-up.json'
    assert json.loads(stamp_of(setup_venv, name).read_text())
    assert work_done(setup_venv, monkeypatch) == []


def test_changed_pin_of_another_set_leaves_the_tested_one(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lowest = setup_venv.VENVS['lowest']
    before = setup_venv.wanted(lowest)
    with open(tmp_path / 'requirements' / 'lowest.txt', 'a') as pins:
        pins.write('some-package==1.0\n')

    assert setup_venv.wanted(lowest)['environment'] != before['environment']
    assert work_done(setup_venv, monkeypatch) == []


def test_unknown_set_is_one_line(setup_venv: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"no set of packages 'oldest'; expected one of .*lowest"):
        setup_venv.main('oldest')


def test_older_python_than_a_set_needs_is_one_line(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup_venv.sys, 'version_info', (3, 11, 7))
    with pytest.raises(
        SystemExit, match=r'highest set .* needs Python 3\.12, this is 3\.11; name'
    ):
        setup_venv.main('highest')


def test_pins_of_a_set_take_the_place_of_the_tested_ones(
    setup_venv: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / 'requirements' / 'pinned.txt').write_text(
        '# tested\nSome_Package==2.0  # why\ntorch==2.14.1\n\nleft==1.0; python_version < "3.11"\n'
    )
    (tmp_path / 'requirements' / 'lowest.txt').write_text('some-package==1.0\nnew==0.1\n')

    tested, lowest = (setup_venv.merged_pins(setup_venv.VENVS[n]) for n in ('pinned', 'lowest'))

    left = 'left==1.0; python_version < "3.11"'
    assert tested.splitlines() == ['Some_Package==2.0', 'torch==2.14.1', left]
    assert sorted(lowest.splitlines()) == [left, 'new==0.1', 'some-package==1.0', 'torch==2.14.1']


def test_pip_installs_the_pins_of_the_set(
    setup_venv: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[tuple[list[str], str]] = []

    def run(command: tuple, **options) -> subprocess.CompletedProcess:
        assert options['cwd'] == tmp_path
        ran.append(([str(word) for word in command], options['env']['PIP_CONSTRAINT']))
        (tmp_path / '.venv-lowest').mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, stdout='')

    monkeypatch.setattr(setup_venv.subprocess, 'run', run)
    lowest = setup_venv.VENVS['lowest']

    setup_venv.make_environment(lowest)
    setup_venv.install_package(lowest)

    pins = '.venv-lowest/pins.txt'
    assert 'torch==2.6.0' in (tmp_path / pins).read_text().splitlines()
    assert {constraint for _, constraint in ran} == {pins}
    (venv, *_), *installs = (command for command, _ in ran)
    assert venv == sys.executable
    assert {command[0] for command in installs} == {str(lowest.python)}
    assert any(command[-2:] == ['--requirement', pins] for command in installs)
    assert (tmp_path / '.venv' / 'bin' / 'python').exists()


def pins_of(name: str) -> dict[str, Requirement]:
    """Return the requirements of requirements/{name}.txt by normalised name."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.partition('#')[0].strip() for line in text.splitlines())
    found = [Requirement(line) for line in lines if line]
    return {pin.name.lower().replace('_', '-'): pin for pin in found}


def version_of(pin: Requirement) -> Version:
    """Return the version that a pin names."""
    (specifier,) = pin.specifier
    assert specifier.operator == '==', pin
    return Version(specifier.version)


@pytest.mark.parametrize('name', ['lowest', 'highest'])
def test_sets_are_within_the_limits(name: str) -> None:
    pins = {**pins_of('pinned'), **pins_of(name)}
    for file in ('runtime', 'mminstall', 'tests', 'optional'):
        for package, need in pins_of(file).items():
            assert version_of(pins[package]) in need.specifier, need


@pytest.mark.parametrize('file', ['runtime', 'mminstall', 'tests', 'optional'])
def test_lowest_set_is_the_lower_limits(file: str) -> None:
    pins = {**pins_of('pinned'), **pins_of('lowest')}
    for package, need in pins_of(file).items():
        for specifier in need.specifier:
            if specifier.operator == '>=' and package != 'setuptools':
                assert version_of(pins[package]) == Version(specifier.version), need


def test_highest_set_is_newer_than_the_tested_one() -> None:
    tested = pins_of('pinned')
    newest = pins_of('highest')
    for package in newest.keys() & tested.keys():
        assert version_of(newest[package]) > version_of(tested[package]), package


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


def find_python(path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run the script that finds a Python and hands over to it."""
    return subprocess.run(
        [path / 'sh', SCRIPTS / 'setup_venv.sh', *arguments],
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


@pytest.mark.parametrize(
    ('arguments', 'python'),
    [((), 'python3.11'), (('lowest',), 'python3.10'), (('highest',), 'python3.12')],
)
def test_each_set_takes_its_python(
    bare_path: Path, arguments: tuple[str, ...], python: str
) -> None:
    for minor in (10, 11, 12):
        write_script(
            bare_path / f'python3.{minor}', 'case "$1" in -c) ;; *) echo "$0" "$@";; esac'
        )
    expected = [str(bare_path / python), str(SCRIPTS / 'setup_venv.py'), *arguments]

    assert find_python(bare_path, *arguments).stdout.split() == expected
    chosen = find_python(bare_path, *arguments, PYTHON='python3.11')
    assert chosen.stdout.split() == [str(bare_path / 'python3.11'), *expected[1:]]


@pytest.mark.parametrize('name', ['lowest', 'highest'])
def test_make_tests_with_the_venv_of_the_set(name: str) -> None:
    make = shutil.which('make')
    if make is None:
        pytest.skip('there is no make')
    # `make test` runs this, too, and would have it tell which folder it enters.
    env = {key: value for key, value in os.environ.items() if not key.startswith('MAKE')}
    run = subprocess.run(
        [make, '-n', f'test-{name}', 'ARGS=-x'], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    setup, test = run.stdout.splitlines()
    assert setup == f'sh .dev_scripts/setup_venv.sh {name}'
    assert f' .venv-{name}/bin/python -m pytest ' in test
    assert test.endswith(' -x')
