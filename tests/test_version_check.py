"""The one clear line for a Python or a package that is missing or not supported."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from reviewkd_mm import version_check
from reviewkd_mm.version_check import REQUIREMENTS, check_package, check_python

ROOT = Path(__file__).resolve().parent.parent
BY_MODULE = {requirement.module: requirement for requirement in REQUIREMENTS}


@pytest.mark.parametrize(
    ('version', 'numbers'),
    [('2.14.1+cu130', (2, 14, 1)), ('0.10.8rc1', (0, 10, 8)), ('2.15.0a0+git1', (2, 15, 0))],
)
def test_release(version: str, numbers: tuple[int, ...]) -> None:
    assert version_check.release(version) == numbers


@pytest.mark.parametrize('version', ['3.10.0', '3.11.7', '3.12.12'])
def test_supported_python(version: str) -> None:
    check_python(version)


@pytest.mark.parametrize('version', ['3.9.18', '3.13.0', '2.7.18'])
def test_unsupported_python(version: str) -> None:
    with pytest.raises(ImportError, match=rf'needs Python >=3\.10,<3\.13, found {version}$'):
        check_python(version)


@pytest.mark.parametrize(
    ('module', 'version'),
    [
        ('torch', '2.6.0'),
        ('torch', '2.14.1+cu130'),
        ('mmengine', '0.10.12'),
        ('mmcv', '2.3.6'),
        ('mmdet', '3.3.0'),
        ('mmpretrain', '1.3.6'),
    ],
)
def test_supported_package(module: str, version: str) -> None:
    check_package(BY_MODULE[module], version)


@pytest.mark.parametrize(
    ('module', 'version', 'found'),
    [
        ('torch', '2.5.1+cu121', r'torch >=2\.6, found 2\.5\.1\+cu121;'),
        ('torch', None, r'torch >=2\.6, found none;'),
        ('mmengine', '0.8.0', r'mmengine >=0\.10\.7,<1\.0, found 0\.8\.0;'),
        ('mmengine', '1.0.0', r'mmengine >=0\.10\.7,<1\.0, found 1\.0\.0;'),
        ('mmcv', '1.7.2', r'mmcv >=2\.0,<2\.4, found 1\.7\.2;'),
        ('mmcv', '2.4.0', r'mmcv >=2\.0,<2\.4, found 2\.4\.0;'),
        ('mmdet', '2.28.2', r'mmdet >=3\.0,<4\.0, found 2\.28\.2;'),
        ('mmpretrain', '2.0.0', r'mmpretrain >=1\.0,<2\.0, found 2\.0\.0;'),
    ],
)
def test_unsupported_package(module: str, version: str | None, found: str) -> None:
    with pytest.raises(ImportError, match=found) as error:
        check_package(BY_MODULE[module], version)
    assert '\n' not in str(error.value)
    assert f'pip install {BY_MODULE[module].install}' in str(error.value)


@pytest.mark.parametrize('module', ['mmdet', 'mmpretrain'])
def test_optional_package_may_be_missing(module: str) -> None:
    check_package(BY_MODULE[module], None)


def test_originals_are_found_under_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != 'mmengine':
            raise metadata.PackageNotFoundError(name)
        return '0.10.7'

    monkeypatch.setattr(version_check.metadata, 'version', version)
    assert version_check.installed_version(BY_MODULE['mmengine']) == '0.10.7'


def test_source_folder_on_the_path_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / 'from_a_folder.py').write_text("__version__ = '1.2.3'\n")
    monkeypatch.syspath_prepend(tmp_path)
    requirement = BY_MODULE['mmdet']._replace(module='from_a_folder', distributions=('no-dist',))
    assert version_check.installed_version(requirement) == '1.2.3'


def test_missing_package_has_no_version() -> None:
    requirement = BY_MODULE['mmdet']._replace(module='no_module', distributions=('no-dist',))
    assert version_check.installed_version(requirement) is None


def test_import_fails_with_the_line_before_torch_is_imported() -> None:
    code = (
        'import sys, importlib.metadata as metadata\n'
        "metadata.version = lambda name: '1.13.1'\n"
        'try:\n'
        '    import reviewkd_mm\n'
        'except ImportError as error:\n'
        "    print(error, 'torch' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    line = 'needs torch >=2.6, found 1.13.1; to install it: pip install torch=='
    assert line in run.stdout, run.stderr
    assert run.stdout.strip().endswith('False')


def test_configs_can_inherit_from_this_package() -> None:
    from mmengine.config.utils import MODULE2PACKAGE

    import reviewkd_mm  # noqa: F401

    assert MODULE2PACKAGE['reviewkd_mm'] == 'reviewkd_mm'


def test_configs_can_inherit_from_either_mmsegmentation() -> None:
    from mmengine.config.utils import MODULE2PACKAGE

    import reviewkd_mm  # noqa: F401

    # The distribution's name differs between OpenMMLab's and onedl's, the module's does not.
    assert MODULE2PACKAGE['mmseg'] == 'mmseg'


def test_how_to_install_what_is_known_alone() -> None:
    hint = version_check.how_to_install('mmseg')
    assert hint == '; to install it: pip install onedl-mmsegmentation==1.4.2'
    assert version_check.how_to_install('mmdett') == ''
