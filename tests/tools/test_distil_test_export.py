"""From a distiller's training to a student's accuracy, through the tools."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.evaluation import AveragePrecision
from torch import Tensor
from torch.nn.functional import one_hot

from reviewkd_mm.datasets import Digits
from reviewkd_mm.datasets.shapes import CLASSES, write_shapes
from reviewkd_mm.export.student import build_student, student_config
from tests.inference.students import write_detector
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


def metrics(config: Path, checkpoint: Path, out: Path, *options: str) -> dict[str, float]:
    logs = ['--work-dir', out.parent / 'test', '--out', out]
    run_tool('test.py', config, checkpoint, *logs, *options, '--cfg-options', *TEST_DATA)
    return json.loads(out.read_text())


def accuracy(config: Path, checkpoint: Path, out: Path) -> float:
    return metrics(config, checkpoint, out)['accuracy/top1']


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


def test_scores_of_an_image_and_its_mirror_image_are_averaged(work_dir, tmp_path):
    config, checkpoint = tmp_path / 'precision.py', work_dir / 'epoch_1.pth'
    evaluator = "dict(_delete_=True, type='AveragePrecision')"
    config.write_text(f'_base_ = {str(TRAINING)!r}\ntest_evaluator = {evaluator}\n')

    found = [
        metrics(config, checkpoint, tmp_path / 'found.json', *options)['multi-label/mAP']
        for options in ((), ('--tta',))
    ]

    image, mirrored, labels = scores_of_views(config, checkpoint)
    precise = (AveragePrecision.calculate(x, labels) for x in (image, image + mirrored))
    assert found == pytest.approx([value.item() for value in precise])
    assert found[0] != found[1]


def scores_of_views(config: Path, checkpoint: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (N, C) of the test images and of their mirror images, and one-hot labels, by hand."""
    cfg = student_config(Config.fromfile(config))
    model = build_student(cfg, str(checkpoint)).eval()
    settings = {key: cfg.test_dataloader.dataset[key] for key in ('split', 'clutter', 'noise')}
    data = Digits(image_size=16, indices=50, **settings)
    images = torch.stack([torch.tensor(sample['img']) for sample in data]).permute(0, 3, 1, 2)
    views = [model.data_preprocessor(dict(inputs=x))['inputs'] for x in (images, images.flip(-1))]
    with torch.no_grad():
        scores = [model(view).softmax(1) for view in views]
    labels = torch.tensor([sample['gt_label'] for sample in data])
    return *scores, one_hot(labels, 10)


def test_boxes_of_an_image_and_its_mirror_image_are_merged(tmp_path):
    config, checkpoint = write_detector(tmp_path)
    data_root = write_shapes(tmp_path / 'shapes', num_train=1, num_val=2)
    cfg, files = Config.fromfile(config), dict(ann_file='annotations/instances_val.json')
    cfg.test_dataloader.update(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler'))
    cfg.test_dataloader.dataset.update(
        data_root=str(data_root), data_prefix=dict(img='val/'), test_mode=True, **files
    )
    cfg.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    cfg.test_evaluator = dict(
        type='CocoMetric',
        metric='bbox',
        ann_file=str(data_root / files['ann_file']),
        outfile_prefix=str(tmp_path / 'found'),
    )
    cfg.test_cfg = dict()
    Config(cfg.to_dict(), format_python_code=False).dump(config)

    counts = {}
    for options in ((), ('--tta',)):
        run_tool('test.py', config, checkpoint, '--work-dir', tmp_path / 'test', *options)
        found = json.loads((tmp_path / 'found.bbox.json').read_text())
        counts[options] = Counter(box['image_id'] for box in found)

    single, merged = counts.values()
    # The student shows at most 10 a view.
    assert set(single.values()) == {10}
    assert all(10 < count <= 20 for count in merged.values())


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
