"""Install reviewkd_mm, its configs, tools and model-index.yml included.

MIM and MMEngine look for a package's configs and tools in its folder `.mim`. A wheel gets copies
there; an editable install gets links, so that an edited config is the one that is used.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop
from setuptools.command.editable_wheel import editable_wheel

PACKAGE = 'reviewkd_mm'
ROOT = Path(__file__).resolve().parent
MIM_FOLDER = ROOT / PACKAGE / '.mim'
MIM_NAMES = ('configs', 'tools', 'model-index.yml')


def read_version() -> str:
    """Return the version without importing the package, which needs torch."""
    text = (ROOT / PACKAGE / 'version.py').read_text(encoding='utf-8')
    return re.search(r"__version__ = '([^']+)'", text)[1]


def read_requirements(name: str) -> list[str]:
    """Return the requirements of requirements/{name}.txt without its comments."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.partition('#')[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def read_readme() -> str:
    """Return README.md for the package's page, empty where it is not shipped."""
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.exists() else ''


def mim_files() -> list[Path]:
    """Return the files to ship under .mim, relative to the root."""
    files = [path for name in MIM_NAMES for path in (ROOT / name, *(ROOT / name).rglob('*'))]
    return sorted(
        path.relative_to(ROOT)
        for path in files
        if path.is_file() and '__pycache__' not in path.parts
    )


def link_mim() -> None:
    """Link what .mim holds to the checkout, or copy it where links are not allowed."""
    shutil.rmtree(MIM_FOLDER, ignore_errors=True)
    MIM_FOLDER.mkdir()
    for name in MIM_NAMES:
        source, link = ROOT / name, MIM_FOLDER / name
        try:
            link.symlink_to(Path(os.path.relpath(source, MIM_FOLDER)), source.is_dir())
        except OSError:  # Windows without the privilege
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, link)


class BuildWithMim(build_py):
    """Puts .mim into what is built."""

    def run(self) -> None:
        super().run()
        # pip's editable install never has 'develop' in sys.argv, so that is not asked.
        if self.editable_mode:
            link_mim()
            return
        # What an earlier build left there may be gone from the checkout by now.
        shutil.rmtree(Path(self.build_lib) / PACKAGE / '.mim', ignore_errors=True)
        for source, target in self._mim_copies().items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        if self.editable_mode:
            return outputs  # the links are in the checkout
        return [*outputs, *map(str, self._mim_copies().values())]

    def _mim_copies(self) -> dict[Path, Path]:
        folder = Path(self.build_lib) / PACKAGE / '.mim'
        return {ROOT / path: folder / path for path in mim_files()}


class EditableWithPath(editable_wheel):
    """Lets MIM find an editable install.

    MIM takes the package's folder to be site-packages joined with the first line of
    top_level.txt, but an editable install's folder is elsewhere. Joining with an absolute path
    gives that path, so the folder goes first.
    """

    def run(self) -> None:
        if self.dist_info_dir is None:
            self._ensure_dist_info()
        top_level = Path(self.dist_info_dir) / 'top_level.txt'
        top_level.write_text(f'{ROOT / PACKAGE}\n{PACKAGE}\n', encoding='utf-8')
        super().run()


class DevelopWithMim(develop):
    """Links .mim for `python setup.py develop`, which builds nothing before setuptools 80."""

    def run(self) -> None:
        link_mim()
        super().run()


TESTS, DOCS, OPTIONAL = map(read_requirements, ('tests', 'docs', 'optional'))

setup(
    name=PACKAGE,
    version=read_version(),
    description='Knowledge distillation by knowledge review on MMEngine',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    classifiers=[
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    # The OpenMMLab packages and their successors have been tried with these Pythons alone.
    python_requires='>=3.10,<3.13',
    install_requires=read_requirements('runtime'),
    extras_require={
        'tests': TESTS,
        'docs': DOCS,
        'optional': OPTIONAL,
        'all': [*TESTS, *DOCS, *OPTIONAL],
        'mim': read_requirements('mminstall'),
    },
    cmdclass={
        'build_py': BuildWithMim,
        'develop': DevelopWithMim,
        'editable_wheel': EditableWithPath,
    },
    zip_safe=False,
)
