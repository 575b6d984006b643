"""From a distiller's training to a student's accuracy, through the tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from tests.tools.in_process import run_tool

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ROOT / 'configs' / 'reviewkd' / 'resnet20_resnet8_digits.py'
FAST = [
    'train_cfg.max_epochs=1',
    'train_dataloader.dataset.num_train=10',
    'train_dataloader.dataset.image_size=16',
    'train_dataloader.dataset.pipeline.0.crop_size=16',
    'val_dataloader.dataset.image_size=16',
    'val_dataloader.dataset.indices=50',
]
TEST_DATA = ['test_dataloader.dataset.image_size=16', 'test_dataloader.dataset.indices=50']


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a distiller for one epoch with a teacher that is not trained."""
    folder = tmp_path_factory.mktemp('distil')
    options = [*FAST, 'model.teacher_ckpt=random']
    run_tool('train.py', TRAINING, '--work-dir', folder, '--cfg-options', *options)
    return folder


def accuracy(config: Path, checkpoint: Path, out: Path) -> float:
    logs = ['--work-dir', out.parent / 'test', '--out', out]
    run_tool('test.py', config, checkpoint, *logs, '--cfg-options', *TEST_DATA)
    return json.loads(out.read_text())['accuracy/top1']


def test_the_training_leaves_a_student_and_no_teacher(work_dir):
    checkpoint = torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict']
    exported = torch.load(work_dir / 'student_last.pth', weights_only=True)['state_dict']

    assert {name.split('.')[0] for name in checkpoint} == {'student', 'transfers'}
    assert not any(name.startswith(('student.', 'transfers.')) for name in exported)
    assert (work_dir / 'student_best.pth').is_file()
    assert Config.fromfile(work_dir / 'student_last.py').model.type == 'ImageClassifier'


def test_checkpoint_and_exported_student_score_alike(work_dir, tmp_path):
    exported = tmp_path / 'student.pth'
    run_tool('export_student.py', TRAINING, work_dir / 'epoch_1.pth', exported)
    logged = [
        json.loads(line)
        for line in next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    ]
    trained = next(record['accuracy/top1'] for record in logged if 'accuracy/top1' in record)

    assert accuracy(TRAINING, work_dir / 'epoch_1.pth', tmp_path / 'a.json') == trained
    assert accuracy(exported.with_suffix('.py'), exported, tmp_path / 'b.json') == trained


def test_a_checkpoint_of_another_network_is_refused(work_dir, tmp_path):
    config = ROOT / 'configs/baselines/resnet20_digits.py'
    with pytest.raises(SystemExit) as caught:
        run_tool('test.py', config, work_dir / 'student_last.pth', '--work-dir', tmp_path)

    assert str(caught.value).startswith('error: checkpoint=')
    assert 'does not fit ImageClassifier' in str(caught.value)


def test_an_export_of_a_missing_checkpoint_writes_nothing(tmp_path):
    with pytest.raises(SystemExit, match='there is no such file'):
        run_tool('export_student.py', TRAINING, tmp_path / 'none.pth', tmp_path / 'out.pth')

    assert not list(tmp_path.iterdir())
