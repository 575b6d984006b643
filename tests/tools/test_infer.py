"""Tests of the tool that draws what a student finds."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import mmcv
import pytest

from reviewkd_mm.export.student import export_student
from tests.inference.students import (
    ARRAY_PIPELINE,
    CLASSES,
    Student,
    write_classifier,
    write_detector,
    write_image,
)

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'infer.py'


@pytest.fixture(scope='module')
def detector(tmp_path_factory: pytest.TempPathFactory) -> Student:
    return write_detector(tmp_path_factory.mktemp('detector'))


@pytest.fixture(scope='module')
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Student:
    return write_classifier(tmp_path_factory.mktemp('classifier'), ARRAY_PIPELINE)


@pytest.fixture
def infer(monkeypatch, capsys):
    """Run the tool in this process; return what it printed."""
    spec = spec_from_file_location('infer', TOOL)
    tool = module_from_spec(spec)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    spec.loader.exec_module(tool)

    def run(*args: str | Path) -> str:
        monkeypatch.setattr(sys, 'argv', ['infer.py', *map(str, args)])
        tool.main()
        return capsys.readouterr().out

    return run


def test_a_distilled_detector_is_drawn_below_the_current_folder(
    detector, tmp_path, monkeypatch, infer
):
    image = write_image(tmp_path / 'image.png')
    monkeypatch.chdir(tmp_path)

    line = infer(*detector, image, '--score-thr', 0, '--device', 'cpu').strip()

    assert line.startswith(f'{image}: ')
    assert line.endswith(' -> work_dirs/infer/image.png')
    assert any(name in line for name in CLASSES)
    drawing = mmcv.imread(tmp_path / 'work_dirs/infer/image.png')
    assert (drawing != mmcv.imread(image)).any()


def test_checkpoint_and_exported_student_draw_alike(classifier, tmp_path, infer):
    (tmp_path / 'images').mkdir()
    for name in ('a.png', 'b.png'):
        write_image(tmp_path / 'images' / name, seed=ord(name[0]))
    cfg = classifier.read()
    weights, config = export_student(cfg, classifier.checkpoint, tmp_path / 'student.pth')

    lines = {}
    for folder, pair in (('one', classifier), ('two', (config, weights))):
        printed = infer(*pair, tmp_path / 'images', '--out-dir', tmp_path / folder)
        lines[folder] = [line.partition(' -> ')[0] for line in printed.strip().splitlines()]

    assert lines['one'] == lines['two']
    assert [line.partition(':')[0] for line in lines['one']] == [
        str(tmp_path / 'images' / name) for name in ('a.png', 'b.png')
    ]
    for name in ('a.png', 'b.png'):
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ('one', 'two'))
        assert one == two


def test_options_change_the_config(detector, tmp_path, infer):
    image = write_image(tmp_path / 'image.png')
    option = 'model.student.test_cfg.max_per_img=1'

    printed = infer(
        *detector, image, '--out-dir', tmp_path, '--score-thr', 0, '--out-dir', tmp_path / 'out',
        '--cfg-options', option,
    )  # fmt: skip

    assert printed.partition(': ')[2].startswith('1 ')
    assert printed.count(',') == 0


def refused(infer, capsys, *args: str | Path) -> str:
    """Return the one line with which the tool ends."""
    with pytest.raises(SystemExit) as caught:
        infer(*args)
    assert isinstance(caught.value.code, str), 'a text makes Python print it and exit with 1'
    assert '\n' not in caught.value.code
    assert capsys.readouterr().out == ''
    return caught.value.code


@pytest.mark.parametrize(
    ('content', 'message'),
    [(None, "error: IMAGE='{}': there is no such file"), (b'broken', "error: IMAGE='{}' is no")],
)
def test_an_image_that_cannot_be_read(classifier, tmp_path, infer, capsys, content, message):
    good, bad = write_image(tmp_path / 'good.png'), tmp_path / 'bad.png'
    if content:
        bad.write_bytes(content)

    line = refused(infer, capsys, *classifier, good, bad, '--out-dir', tmp_path / 'out')

    assert line.startswith(message.format(bad))
    assert not (tmp_path / 'out').exists()


def test_a_checkpoint_of_another_network(classifier, detector, tmp_path, infer, capsys):
    image = write_image(tmp_path / 'image.png')
    pair = (classifier.config, detector.checkpoint)

    line = refused(infer, capsys, *pair, image, '--out-dir', tmp_path / 'out')

    assert line.startswith(f"error: checkpoint='{detector.checkpoint}' does not fit")
    assert not (tmp_path / 'out').exists()


def test_a_config_that_is_not_supported(classifier, tmp_path, infer, capsys):
    image = write_image(tmp_path / 'image.png')
    config = tmp_path / 'rotated.py'
    config.write_text("model = dict(type='Rotated')\ndefault_scope = 'mmrotate'\n")

    line = refused(
        infer, capsys, config, classifier.checkpoint, image, '--out-dir', tmp_path / 'out'
    )

    assert line.startswith("error: model.type='Rotated' is of mmrotate: expected a model of")
    assert not (tmp_path / 'out').exists()
