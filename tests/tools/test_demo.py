"""Tests of the demo with trainings that only write their logs."""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import NamedTuple

import mmcv
import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
# What the trainings log after their two epochs.
VALUES = {
    'resnet20_digits': {'accuracy/top1': 87.5},
    'resnet8_digits': {'accuracy/top1': 77.25},
    'resnet20_resnet8_digits': {'accuracy/top1': 82.0},
    'mask-rcnn_r18_shapes': {'coco/bbox_mAP': 0.345, 'coco/segm_mAP': 0.375},
    'mask-rcnn_r18-thin_shapes': {'coco/bbox_mAP': 0.234, 'coco/segm_mAP': 0.253},
    'mask-rcnn_r18_r18-thin_shapes': {'coco/bbox_mAP': 0.312, 'coco/segm_mAP': 0.332},
}


class Trainings:
    """Stands in for the processes of tools/train.py.

    Args:
        failing (str): Name of the config whose training fails. Defaults to none.
    """

    def __init__(self, failing: str = '') -> None:
        self.failing = failing
        self.options: dict[str, dict[str, str]] = {}

    def __call__(self, command: list[str], **kwargs: object) -> CompletedProcess:
        """Write what a training leaves behind."""
        _, tool, config, _, work_dir, _, *options = command
        assert tool == 'tools/train.py'
        name, values = Path(config).stem, dict(option.split('=', 1) for option in options)
        if name == self.failing:
            return CompletedProcess(command, 1, stdout='', stderr='out of luck')
        if not Path(values.get('model.teacher_ckpt', config)).is_file():
            return CompletedProcess(command, 1, stdout='', stderr='there is no teacher yet')
        if name == 'mask-rcnn_r18_shapes':
            time.sleep(0.5)  # All that need not wait for this teacher have ended by then.
        log = Path(work_dir, '20300101_000000', 'vis_data', 'scalars.json')
        log.parent.mkdir(parents=True)
        records = [{'lr': 0.1, 'step': 1}]
        for step, factor in ((1, 0.5), (2, 1.0)):
            records.append({k: v * factor for k, v in VALUES[name].items()} | {'step': step})
        log.write_text('\n'.join(map(json.dumps, records)))
        Path(work_dir, 'epoch_2.pth').touch()
        Path(work_dir, 'last_checkpoint').write_text(f'{work_dir}/epoch_2.pth')
        self.options[work_dir] = values
        return CompletedProcess(command, 0)


class Demo(NamedTuple):
    """What a demo left behind."""

    lines: list[str]
    options: dict[str, dict[str, str]]
    out: Path


def run_demo(out: Path, trainings: Trainings) -> Demo:
    """Run the demo with two seeds into a folder."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.syspath_prepend(str(TOOLS))
        patch.chdir(TOOLS.parent)
        demo = import_module('demo')
        patch.setattr(import_module('demo_runs'), 'subprocess', SimpleNamespace(run=trainings))
        patch.setattr(demo, 'write_shapes', lambda folder: folder)
        patch.setattr(sys, 'argv', ['demo.py', '--seeds', '2', '--out', str(out)])
        patch.setenv('COLUMNS', '120')
        demo.main()
    return Demo(printed.getvalue().splitlines(), trainings.options, out)


@pytest.fixture(scope='module')
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return run_demo(tmp_path_factory.mktemp('demo'), Trainings())


def test_the_tables_show_what_was_logged(demo):
    cells = [[cell.strip() for cell in line.strip('│').split('│')] for line in demo.lines]

    for name, parameters, *values in (
        ('ResNet-20, the teacher', '272,474', '87.5', '1'),
        ('ResNet-8 alone', '19,954', '77.2 ± 0.0', '2'),
        ('ResNet-8 by ReviewKD', '19,954', '82.0 ± 0.0', '2'),
        ('Mask R-CNN, the teacher', '1,392,304', '34.5', '37.5', '1'),
        ('thin Mask R-CNN alone', '350,560', '23.4 ± 0.0', '25.3 ± 0.0', '2'),
        ('thin Mask R-CNN by ReviewKD', '350,560', '31.2 ± 0.0', '33.2 ± 0.0', '2'),
    ):
        assert [name, parameters, *values] in cells


@pytest.mark.parametrize('task', ['digits', 'shapes'])
@pytest.mark.parametrize('seed', [0, 1])
def test_a_student_learns_from_the_teacher_that_was_trained(demo, task, seed):
    folder = demo.out / task

    options = demo.options[str(folder / f'review_{seed}')]
    assert options['model.teacher_ckpt'] == str(folder / 'teacher/epoch_2.pth')
    assert options['randomness.seed'] == str(seed)
    assert 'model.teacher_ckpt' not in demo.options[str(folder / f'alone_{seed}')]


def test_the_detectors_read_the_generated_shapes(demo):
    for work_dir, options in demo.options.items():
        is_detector = Path(work_dir).parent.name == 'shapes'
        expected = f'{demo.out}/data/shapes/' if is_detector else None
        assert options.get('coco_data.data_root') == expected


def test_the_curves_are_drawn(demo):
    height, width, _ = mmcv.imread(str(demo.out / 'curves.png')).shape
    assert width > 2 * height


def test_a_failing_training_ends_the_demo(tmp_path):
    trainings = Trainings(failing='mask-rcnn_r18_shapes')

    with pytest.raises(SystemExit, match=r'mask-rcnn_r18_shapes.* failed:\nout of luck'):
        run_demo(tmp_path, trainings)
    assert not list(tmp_path.glob('shapes/review_*'))
