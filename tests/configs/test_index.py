"""The index of configs: nothing missing, nothing invented, the same in every place."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from mmengine.hub import get_config

from reviewkd_mm.config import is_distiller, read_config
from tests.configs.reading import CONFIGS, FILES, name_of, skip_without_mmseg

ROOT = CONFIGS.parent
METAFILES = sorted(CONFIGS.glob('*/metafile.yml'))
KNOWN = {
    'Task',
    'Training Data',
    'Teacher',
    'Student',
    'Metric',
    'Published',
    'Published Source',
    'Rerun',
    'Rerun Source',
    'Student Alone',
    'Teacher Alone',
    'Teacher Alone Mask AP',
    'Differs',
}


def load_script() -> ModuleType:
    path = ROOT / '.dev_scripts' / 'write_config_tables.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(metafile: Path) -> dict[str, Any]:
    return yaml.safe_load(metafile.read_text(encoding='utf-8'))


MODELS = [model for metafile in METAFILES for model in read(metafile)['Models']]
METADATA = {model['Config']: model['Metadata'] for model in MODELS}


def test_every_config_is_in_the_index_once_and_every_entry_has_a_config():
    files = [str(file.relative_to(ROOT)) for file in FILES]

    assert sorted(model['Config'] for model in MODELS) == sorted(files)
    names = [model['Name'] for model in MODELS]
    assert len(set(names)) == len(names)


def test_the_index_names_every_metafile_and_each_its_readme():
    imported = read(ROOT / 'model-index.yml')['Import']

    assert imported == [str(file.relative_to(ROOT)) for file in METAFILES]
    for metafile in METAFILES:
        (collection,) = read(metafile)['Collections']
        assert (ROOT / collection['README']).is_file()
        assert {m['In Collection'] for m in read(metafile)['Models']} == {collection['Name']}


@pytest.mark.parametrize('metafile', METAFILES, ids=lambda file: file.parent.name)
def test_a_readme_has_the_tables_of_its_metafile(metafile):
    readme = metafile.with_name('README.md')

    assert readme.read_text(encoding='utf-8') == load_script().update(readme), (
        'run .dev_scripts/write_config_tables.py'
    )


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_a_number_has_a_source_and_a_key_a_meaning(model):
    metadata = model['Metadata']

    assert set(metadata) <= KNOWN
    for what in ('Published', 'Rerun'):
        assert (what in metadata) == (f'{what} Source' in metadata)
    assert 'Student' in metadata


@pytest.mark.parametrize('file', FILES, ids=name_of)
def test_metadata_agrees_with_the_config(file):
    skip_without_mmseg(file.stem)
    metadata = METADATA[str(file.relative_to(ROOT))]
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding='utf-8')))

    assert is_distiller(read_config(file).model) == ('Teacher' in metadata)
    if metadata['Metric'] == 'Top 1 Accuracy':
        for key in ('Published', 'Rerun'):
            assert key not in metadata or f'{metadata[key]:.2f} %' in docstring


def test_the_papers_other_coco_rows_are_left_blank():
    """No source that could be checked reports them."""
    published = {
        Path(model['Config']).stem: model['Metadata']['Published']
        for model in MODELS
        if model['Metadata']['Training Data'] == 'COCO' and 'Published' in model['Metadata']
    }

    assert published == {'faster-rcnn_r101_r50_coco': 40.36}


def test_mmengine_finds_a_config_through_the_index():
    cfg = get_config('reviewkd_mm::reviewkd/vgg13_vgg8_cifar100.py')

    assert cfg.model.student.backbone.type == 'reviewkd_mm.CIFARVGG'
