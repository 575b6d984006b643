"""What setup.py builds, and that the requirement files agree with it and with each other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from reviewkd_mm import version_check
from reviewkd_mm.version import __version__

ROOT = Path(__file__).resolve().parent.parent
NAMES = ('runtime', 'mminstall', 'tests', 'docs', 'optional')


def requirements(name: str) -> list[Requirement]:
    """Return what requirements/{name}.txt asks for."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.partition('#')[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line]


def normalized(name: str) -> str:
    """Return a distribution's name as pip compares it."""
    return name.lower().replace('_', '-')


PINNED = {
    normalized(pin.name): next(iter(pin.specifier)).version for pin in requirements('pinned')
}


def run_setup(folder: Path, *command: str) -> None:
    """Run setup.py in a folder without network."""
    run = subprocess.run(
        [sys.executable, 'setup.py', '--quiet', *command],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, with one config and one tool of its own."""
    copy = tmp_path_factory.mktemp('checkout')
    ignore = shutil.ignore_patterns('__pycache__', '.mim', '*.egg-info')
    for name in ('reviewkd_mm', 'configs', 'tools', 'requirements'):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ('setup.py', 'MANIFEST.in', 'model-index.yml', 'LICENSE', 'pyproject.toml'):
        shutil.copy2(ROOT / name, copy)
    (copy / 'configs' / 'some').mkdir()
    (copy / 'configs' / 'some' / 'config.py').write_text('a = 1\n')
    (copy / 'tools' / 'some_tool.sh').write_text('true\n')
    (copy / 'tools' / '__pycache__').mkdir()
    (copy / 'tools' / '__pycache__' / 'old.pyc').write_text('')
    return copy


@pytest.fixture(scope='module')
def wheel(checkout: Path) -> ZipFile:
    """The wheel of the checkout."""
    run_setup(checkout, 'bdist_wheel', '--dist-dir', 'dist')
    return ZipFile(next((checkout / 'dist').glob('*.whl')))


@pytest.fixture(scope='module')
def metadata(wheel: ZipFile) -> Message:
    """The wheel's metadata."""
    return message_from_bytes(wheel.read(f'reviewkd_mm-{__version__}.dist-info/METADATA'))


def mim_names(archive: ZipFile) -> set[str]:
    """Return the files of a wheel that are under .mim."""
    prefix = 'reviewkd_mm/.mim/'
    return {name.removeprefix(prefix) for name in archive.namelist() if name.startswith(prefix)}


def test_wheel_has_copies_for_mim(wheel: ZipFile) -> None:
    names = mim_names(wheel)
    assert {'model-index.yml', 'configs/some/config.py', 'tools/some_tool.sh'} <= names
    assert not any('__pycache__' in name for name in names)
    assert wheel.read('reviewkd_mm/.mim/configs/some/config.py') == b'a = 1\n'


def test_wheel_has_every_module_and_nothing_else(wheel: ZipFile, checkout: Path) -> None:
    modules = {str(path.relative_to(checkout)) for path in checkout.glob('reviewkd_mm/**/*.py')}
    shipped = {name for name in wheel.namelist() if name.endswith('.py') and '.mim' not in name}
    assert shipped == modules


def test_wheel_from_sdist_is_the_same(wheel: ZipFile, checkout: Path, tmp_path: Path) -> None:
    run_setup(checkout, 'sdist', '--dist-dir', str(tmp_path))
    shutil.unpack_archive(next(tmp_path.glob('*.tar.gz')), tmp_path)
    source = tmp_path / f'reviewkd_mm-{__version__}'
    assert not (source / 'reviewkd_mm' / '.mim').exists()
    run_setup(source, 'bdist_wheel', '--dist-dir', str(tmp_path))
    assert set(ZipFile(next(tmp_path.glob('*.whl'))).namelist()) == set(wheel.namelist())


def test_rebuilt_wheel_forgets_deleted_configs(checkout: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkout, tmp_path / 'copy')
    extra = copy / 'configs' / 'extra.py'
    extra.write_text('')
    run_setup(copy, 'build_py')
    built = copy / 'build' / 'lib' / 'reviewkd_mm' / '.mim' / 'configs' / 'extra.py'
    assert built.exists()
    extra.unlink()
    run_setup(copy, 'build_py')
    assert not built.exists()


def test_editable_install_links_for_mim(checkout: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkout, tmp_path / 'copy')
    for _ in range(2):  # the second finds the links of the first
        run_setup(copy, 'editable_wheel', '--dist-dir', str(tmp_path))
    folder = copy / 'reviewkd_mm' / '.mim'
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (folder / name).is_symlink()
        assert (folder / name).resolve() == (copy / name).resolve()
    # MIM joins site-packages with the first line, which gives the absolute path itself.
    archive = ZipFile(next(tmp_path.glob('*.whl')))
    top_level = archive.read(f'reviewkd_mm-{__version__}.dist-info/top_level.txt').decode()
    assert top_level.splitlines() == [str(copy / 'reviewkd_mm'), 'reviewkd_mm']


def test_metadata(metadata: Message) -> None:
    assert metadata['Version'] == __version__
    limits = version_check.limits(version_check.PYTHON_MINIMUM, version_check.PYTHON_BELOW)
    assert SpecifierSet(metadata['Requires-Python']) == SpecifierSet(limits)
    assert set(metadata.get_all('Provides-Extra')) == {'tests', 'docs', 'optional', 'all', 'mim'}
    needed = [Requirement(line) for line in metadata.get_all('Requires-Dist')]
    always = {normalized(need.name) for need in needed if need.marker is None}
    assert always == {normalized(need.name) for need in requirements('runtime')}


@pytest.mark.parametrize('name', [*NAMES, 'pinned'])
def test_requirement_file_is_not_empty(name: str) -> None:
    assert requirements(name)


@pytest.mark.parametrize('need', version_check.REQUIREMENTS, ids=lambda need: need.module)
def test_requirement_files_agree_with_the_import_check(need: version_check.Requirement) -> None:
    files = ('runtime', 'mminstall', 'optional')
    asked = {normalized(r.name): r for name in files for r in requirements(name)}
    tested = need.distributions[0]
    for specifier in asked[tested].specifier:
        if specifier.operator == '>=':
            assert version_check.is_supported(specifier.version, need.minimum, need.below)
        else:
            assert (specifier.operator, specifier.version) == ('<', need.below)
    assert f'{tested}=={PINNED[tested]}' in need.install


@pytest.mark.parametrize('name', NAMES)
def test_pins_are_within_the_limits(name: str) -> None:
    for need in requirements(name):
        if name != 'docs':
            assert PINNED[normalized(need.name)] in need.specifier, need


def test_pins_are_exact_and_complete() -> None:
    for pin in requirements('pinned'):
        assert [specifier.operator for specifier in pin.specifier] == ['=='], pin


def test_pins_keep_the_opencv_that_needs_no_display() -> None:
    assert 'opencv-python-headless' in PINNED
    assert 'opencv-python' not in PINNED


def test_model_index_lists_its_imports() -> None:
    from mmengine.fileio import load

    imports = load(ROOT / 'model-index.yml')['Import']
    assert isinstance(imports, list)
    assert all((ROOT / path).is_file() for path in imports)
