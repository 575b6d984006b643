"""Tests of the tool that shows what a student reviews."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch

from tests.inference.reviews import (
    Pair,
    save_distiller,
    write_classifiers,
    write_detectors,
)
from tests.inference.students import write_image
from tests.models.distillers.helpers import logits, review

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'analysis_tools' / 'visualize_attention.py'


@pytest.fixture(scope='module')
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return write_classifiers(tmp_path_factory.mktemp('classifiers'))


@pytest.fixture(scope='module')
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return write_detectors(tmp_path_factory.mktemp('detectors'))


@pytest.fixture
def visualize(monkeypatch, capsys):
    """Run the tool in this process; return the lines that it printed."""
    spec = spec_from_file_location('visualize_attention', TOOL)
    tool = module_from_spec(spec)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    spec.loader.exec_module(tool)

    def run(*args: str | Path) -> list[str]:
        command = ['visualize_attention.py', *map(str, args), '--device', 'cpu']
        monkeypatch.setattr(sys, 'argv', command)
        tool.main()
        return [line for line in capsys.readouterr().out.splitlines() if ' -> ' in line]

    return run


def assert_drawn(file: Path) -> np.ndarray:
    pixels = mmcv.imread(file)
    assert pixels.shape[1] == 1800
    assert pixels.std() > 20, 'a blank picture has no contrast'
    return pixels


def test_a_classifier_is_drawn_below_the_current_folder(
    classifiers, tmp_path, monkeypatch, visualize
):
    image = write_image(tmp_path / 'image.png')
    monkeypatch.chdir(tmp_path)

    (line,) = visualize(*classifiers[:2], image)

    assert line.startswith(f'{image}: ')
    assert line.endswith(' -> work_dirs/attention/image.png')
    assert_drawn(tmp_path / 'work_dirs/attention/image.png')


def test_a_figure_for_each_image_of_a_detector(detectors, tmp_path, visualize):
    (tmp_path / 'images').mkdir()
    for name, height, width in (('wide.png', 60, 80), ('tall.png', 90, 40)):
        write_image(tmp_path / 'images' / name, height, width)

    lines = visualize(*detectors[:2], tmp_path / 'images', '--out-dir', tmp_path / 'out')

    assert len(lines) == 2
    tall, wide = (assert_drawn(tmp_path / 'out' / name) for name in ('tall.png', 'wide.png'))
    assert len(tall) > len(wide)


def test_another_checkpoint_of_the_student_beside(classifiers, tmp_path, visualize):
    image = write_image(tmp_path / 'image.png')
    before = save_distiller(classifiers, tmp_path / 'before.pth', seed=7)

    visualize(*classifiers[:2], image, '--out-dir', tmp_path / 'one')
    visualize(*classifiers[:2], image, '--out-dir', tmp_path / 'two', '--before', before)

    one, two = (assert_drawn(tmp_path / folder / 'image.png') for folder in ('one', 'two'))
    assert one.shape != two.shape, 'with a sixth column maps are smaller'


def test_a_transfer_by_name(tmp_path, visualize):
    pair = write_classifiers(tmp_path, kd=logits(), early=review(), late=review())
    image = write_image(tmp_path / 'image.png')
    names = ('early', 'late')

    visualize(*pair[:2], image, '--out-dir', tmp_path / 'default')
    for name in names:
        visualize(*pair[:2], image, '--out-dir', tmp_path / name, '--transfer', name)

    default, early, late = (
        assert_drawn(tmp_path / folder / 'image.png') for folder in ('default', *names)
    )
    assert (default == early).all()
    assert (default[400:] != late[400:]).any(), 'the maps are of another connector'


def refused(visualize, *args: str | Path) -> str:
    """Return the one line with which the tool ends."""
    with pytest.raises(SystemExit) as caught:
        visualize(*args)
    assert isinstance(caught.value.code, str), 'a text makes Python print it and exit with 1'
    assert '\n' not in caught.value.code
    return caught.value.code


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--transfer', 'reviews'), "error: transfer='reviews': the distiller has no such tran"),
        (('--before', '/nowhere/before.pth'), "error: before='/nowhere/before.pth': there is no"),
        (
            ('--cfg-options', 'model.teacher_ckpt=/nowhere/teacher.pth'),
            "error: teacher_ckpt='/nowhere/teacher.pth': there is no such file",
        ),
    ],
)
def test_options_that_cannot_be_used(classifiers, tmp_path, visualize, options, message):
    image = write_image(tmp_path / 'image.png')

    line = refused(visualize, *classifiers[:2], image, '--out-dir', tmp_path / 'out', *options)

    assert line.startswith(message)
    assert not (tmp_path / 'out').exists()


def test_an_exported_student_is_no_distiller(classifiers, tmp_path, visualize):
    image = write_image(tmp_path / 'image.png')
    exported = tmp_path / 'student.pth'
    torch.save(classifiers.student_of().state_dict(), exported)

    line = refused(visualize, classifiers.config, exported, image, '--out-dir', tmp_path / 'out')

    assert line.startswith(f"error: checkpoint='{exported}' has no connector")
    assert 'expected a checkpoint of the distiller' in line
    assert not (tmp_path / 'out').exists()


def test_a_distiller_that_reviews_nothing(tmp_path, visualize):
    pair = write_classifiers(tmp_path, kd=logits())
    image = write_image(tmp_path / 'image.png')

    line = refused(visualize, *pair[:2], image, '--out-dir', tmp_path / 'out')

    assert line.startswith('error: transfers: none has a ReviewConnector')
    assert "'kd' (no connector)" in line
