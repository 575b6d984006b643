"""Tests of the demo with trainings that only write their logs."""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess
from threading import Lock
from types import ModuleType, SimpleNamespace

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
    """Stands in for the processes of tools/train.py."""

    def __init__(self) -> None:
        self.finished: list[str] = []
        self.options: dict[str, dict[str, str]] = {}
        self.failing = ''
        self._lock = Lock()

    def __call__(self, command: list[str], **kwargs: object) -> CompletedProcess:
        """Write what a training leaves behind."""
        _, tool, config, _, work_dir, _, *options = command
        assert tool == 'tools/train.py'
        name = Path(config).stem
        if name == self.failing:
            return CompletedProcess(command, 1, stdout='', stderr='out of luck')
        if name == 'mask-rcnn_r18_shapes':
            time.sleep(0.5)  # All that need not wait for this teacher have ended by then.
        log = Path(work_dir, '20300101_000000', 'vis_data', 'scalars.json')
        log.parent.mkdir(parents=True)
        records = [{'lr': 0.1, 'step': 1}]
        for step, factor in ((1, 0.5), (2, 1.0)):
            records.append({k: v * factor for k, v in VALUES[name].items()} | {'step': step})
        log.write_text('\n'.join(map(json.dumps, records)))
        Path(work_dir, 'last_checkpoint').write_text(f'{work_dir}/epoch_2.pth')
        with self._lock:
            self.finished.append(name)
            self.options[work_dir] = dict(option.split('=', 1) for option in options)
        return CompletedProcess(command, 0)


@pytest.fixture
def trainings(monkeypatch) -> Trainings:
    monkeypatch.syspath_prepend(str(TOOLS))
    fake = Trainings()
    monkeypatch.setattr(import_module('demo_runs'), 'subprocess', SimpleNamespace(run=fake))
    return fake


@pytest.fixture
def demo(trainings, monkeypatch, tmp_path) -> ModuleType:
    module = import_module('demo')
    monkeypatch.setattr(module, 'write_shapes', lambda folder: folder)
    monkeypatch.setattr(sys, 'argv', ['demo.py', '--seeds', '2', '--out', str(tmp_path)])
    monkeypatch.setenv('COLUMNS', '120')
    return module


def test_the_tables_show_what_was_logged(demo, capsys):
    demo.main()

    lines = capsys.readouterr().out.splitlines()
    for name, parameters, *values in (
        ('ResNet-20, the teacher', '272,474', '87.5', '1'),
        ('ResNet-8 alone', '19,954', '77.2 ± 0.0', '2'),
        ('ResNet-8 by ReviewKD', '19,954', '82.0 ± 0.0', '2'),
        ('Mask R-CNN, the teacher', '1,392,304', '34.5', '37.5', '1'),
        ('thin Mask R-CNN alone', '350,560', '23.4 ± 0.0', '25.3 ± 0.0', '2'),
        ('thin Mask R-CNN by ReviewKD', '350,560', '31.2 ± 0.0', '33.2 ± 0.0', '2'),
    ):
        cells = ([cell.strip() for cell in line.strip('│').split('│')] for line in lines)
        assert [name, parameters, *values] in list(cells)


def test_a_student_learns_from_the_teacher_that_was_trained(demo, trainings, tmp_path):
    demo.main()

    assert len(trainings.finished) == 2 * (1 + 2 + 2)
    for task, pair in (
        ('digits', ('resnet20_digits', 'resnet20_resnet8_digits')),
        ('shapes', ('mask-rcnn_r18_shapes', 'mask-rcnn_r18_r18-thin_shapes')),
    ):
        teacher, review = map(trainings.finished.index, pair)
        assert teacher < review
        for seed in (0, 1):
            options = trainings.options[str(tmp_path / task / f'review_{seed}')]
            assert options['model.teacher_ckpt'] == str(tmp_path / task / 'teacher/epoch_2.pth')
            assert options['randomness.seed'] == str(seed)
            assert (
                'model.teacher_ckpt'
                not in trainings.options[str(tmp_path / task / f'alone_{seed}')]
            )


def test_the_detectors_read_the_generated_shapes(demo, trainings, tmp_path):
    demo.main()

    for work_dir, options in trainings.options.items():
        is_detector = Path(work_dir).parent.name == 'shapes'
        expected = f'{tmp_path}/data/shapes/' if is_detector else None
        assert options.get('coco_data.data_root') == expected


def test_the_curves_are_drawn(demo, tmp_path):
    demo.main()

    height, width, _ = mmcv.imread(str(tmp_path / 'curves.png')).shape
    assert width > 2 * height


def test_a_failing_training_ends_the_demo(demo, trainings):
    trainings.failing = 'mask-rcnn_r18_shapes'

    with pytest.raises(SystemExit, match=r'mask-rcnn_r18_shapes.* failed:\nout of luck'):
        demo.main()
    assert 'mask-rcnn_r18_r18-thin_shapes' not in trainings.finished
