"""From a detector's distillation, resumed once, to the AP of its student, through the tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from reviewkd_mm.datasets.shapes import write_shapes
from tests.tools.in_process import run_tool

ROOT = Path(__file__).resolve().parents[2]
TRAINING = ROOT / 'configs' / 'reviewkd' / 'mask-rcnn_r18_r18-thin_shapes.py'
OPS = 'reviewkd_mm.mmcv_ops'
APS = ('coco/bbox_mAP', 'coco/segm_mAP')


def options(data_root: Path, **more: object) -> list[str]:
    """Return the --cfg-options: a few images, and boxes however unsure the student is."""
    changes = {
        'coco_data.data_root': f'{data_root}/',
        'model.student.test_cfg.rcnn.score_thr': 0.0,
        'model.teacher_ckpt': 'random',
        **more,
    }
    return ['--cfg-options', *(f'{key}={value}' for key, value in changes.items())]


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp('data') / 'shapes', num_train=8, num_val=4)


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """Train for one epoch, then resume for a second one."""
    folder = tmp_path_factory.mktemp('distil')
    for epochs, resume in ((1, []), (2, ['--resume'])):
        # A visualizer of a known name would log where the first one of it did.
        names = {'train_cfg.max_epochs': epochs, 'visualizer.name': f'run_{epochs}'}
        run_tool('train.py', TRAINING, '--work-dir', folder, *resume, *options(data_root, **names))
    return folder


def scalars(work_dir: Path) -> list[dict]:
    """Read the records of all runs in a work dir, the oldest first."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def aps_of(config: Path, checkpoint: Path, out: Path, *changes: str) -> dict[str, float]:
    run_tool('test.py', config, checkpoint, '--work-dir', out.parent, '--out', out, *changes)
    metrics = json.loads(out.read_text())
    return {key: metrics[key] for key in APS}


def test_a_resumed_training_goes_on_where_it_stopped(work_dir):
    checkpoints = [torch.load(work_dir / f'epoch_{n}.pth', weights_only=False) for n in (1, 2)]
    first, second = (saved['meta']['iter'] for saved in checkpoints)
    steps = {int(state['step']) for state in checkpoints[1]['optimizer']['state'].values()}

    assert second == 2 * first
    assert steps == {second}
    runs = [record for record in scalars(work_dir) if APS[0] in record]
    assert [record['step'] for record in runs] == [1, 2]


def test_a_checkpoint_has_no_tensor_of_the_teacher(work_dir):
    saved = torch.load(work_dir / 'epoch_2.pth', weights_only=False)

    assert {name.split('.')[0] for name in saved['state_dict']} == {'student', 'transfers'}
    trained = sum(1 for name in saved['state_dict'] if 'running' not in name)
    assert 0 < len(saved['optimizer']['state']) <= trained


def test_checkpoint_and_exported_student_have_the_ap_of_the_training(
    work_dir, data_root, tmp_path
):
    trained = {key: scalars(work_dir)[-1][key] for key in APS}
    exported, config = work_dir / 'student_last.pth', work_dir / 'student_last.py'

    of_checkpoint = aps_of(
        TRAINING, work_dir / 'epoch_2.pth', tmp_path / 'a.json', *options(data_root)
    )
    of_export = aps_of(config, exported, tmp_path / 'b.json')

    assert of_checkpoint == of_export == pytest.approx(trained, abs=1e-9)


def test_the_exported_student_is_mmdetections_own(work_dir):
    cfg = Config.fromfile(work_dir / 'student_last.py')

    assert cfg.model.type == 'MaskRCNN'
    assert cfg.custom_imports.imports == [OPS]
    assert 'reviewkd_mm' not in cfg.pretty_text.replace(OPS, '')
