"""Checkpoints are there wholly or not at all, and an old one goes when the new one has come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, METRICS
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner

from reviewkd_mm.files import atomic_files
from reviewkd_mm.files.whole_checkpoints import is_whole
from tests.models.distillers.helpers import NO_VALIDATION, classifier, runner_cfg, train


@METRICS.register_module(force=True)
class Scores(BaseMetric):
    """A metric that has the given value in the validation of each epoch."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        epoch = MessageHub.get_current_instance().get_info('epoch')
        return dict(score=self.values[epoch], minus=-self.values[epoch])


@HOOKS.register_module(force=True)
class ListFiles(Hook):
    """Note the checkpoints that are whole at the moment when another is about to be written."""

    seen: list[set[str]]

    def before_train(self, runner: Runner) -> None:
        type(self).seen = []

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self.seen.append({f.name for f in Path(runner.work_dir).glob('*.pth') if is_whole(f)})


def settings(scores: list[float], **kwargs: Any) -> dict[str, Any]:
    options = dict(interval=1, max_keep_ckpts=1, save_best='score', rule='greater', **kwargs)
    return dict(
        val_evaluator=dict(type='Scores', values=scores),
        train_cfg=dict(by_epoch=True, max_epochs=len(scores), val_interval=1),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='reviewkd_mm.AtomicCheckpointHook', **options),
        ),
        custom_hooks=[dict(type='ListFiles')],
    )


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.glob('*.pth*')}


def read(path: Path) -> dict:
    return torch.load(path, weights_only=False)


def test_each_epoch_is_saved_where_no_interval_is_given(tmp_path):
    hooks = dict(checkpoint=dict(type='reviewkd_mm.AtomicCheckpointHook'))

    train(classifier(), tmp_path, default_hooks=hooks, **NO_VALIDATION)

    assert names(tmp_path) == {'epoch_1.pth', 'epoch_2.pth'}


def test_what_is_kept_is_what_mmengine_keeps(tmp_path):
    ours = settings([0.1, 0.3, 0.2])
    mmengines = settings([0.1, 0.3, 0.2])
    mmengines['default_hooks']['checkpoint']['type'] = 'CheckpointHook'

    train(classifier(), tmp_path / 'ours', **ours)
    train(classifier(), tmp_path / 'mmengines', **mmengines)

    assert names(tmp_path / 'ours') == names(tmp_path / 'mmengines')
    last = (tmp_path / 'ours' / 'last_checkpoint').read_text()
    assert last == str(tmp_path / 'ours' / 'epoch_3.pth')


def test_there_is_always_a_whole_checkpoint_to_go_on_from(tmp_path):
    train(classifier(), tmp_path, **settings([0.1, 0.2, 0.3]))

    after_the_first = ListFiles.seen[1:]
    assert len(after_the_first) >= 6
    assert all(any(name.startswith('epoch') for name in seen) for seen in after_the_first)
    after_the_first_best = [seen for seen in ListFiles.seen if 'epoch_2.pth' in seen]
    assert all(any(n.startswith('best') for n in seen) for seen in after_the_first_best)


def test_several_bests_are_kept_apart(tmp_path):
    cfg = settings([0.1, 0.3, 0.2])
    cfg['default_hooks']['checkpoint'].update(save_best=['score', 'minus'])

    train(classifier(), tmp_path, **cfg)

    assert names(tmp_path) == {
        'best_score_epoch_2.pth',
        'best_minus_epoch_1.pth',
        'epoch_3.pth',
    }


def test_a_checkpoint_holds_its_validation(tmp_path):
    train(classifier(), tmp_path, **settings([0.3, 0.2]))

    last = read(tmp_path / 'epoch_2.pth')

    assert last['meta']['epoch'] == 2
    assert last['meta']['iter'] == 4
    scores = last['message_hub']['log_scalars']['val/score'].data[0]
    assert scores.tolist() == pytest.approx([0.3, 0.2])


def test_a_flexible_runner_counts_each_epoch_once(tmp_path):
    cfg = runner_cfg(classifier(), tmp_path, env_cfg=dict(), **settings([0.3, 0.4]))

    FlexibleRunner.from_cfg(cfg).train()

    meta = read(tmp_path / 'epoch_2.pth')['meta']
    assert (meta['epoch'], meta['validated']) == (2, True)
    assert (tmp_path / 'best_score_epoch_2.pth').exists()


def test_by_iteration_too(tmp_path):
    cfg = settings([0.1] * 5, by_epoch=False)
    cfg['default_hooks']['checkpoint']['interval'] = 2
    cfg['train_cfg'] = dict(type='IterBasedTrainLoop', max_iters=5, val_interval=2)
    cfg['train_dataloader'] = dict(
        batch_size=4,
        sampler=dict(type='InfiniteSampler'),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='reviewkd_mm.TinyImages'),
    )

    train(classifier(), tmp_path, **cfg)

    assert names(tmp_path) == {'best_score_iter_2.pth', 'iter_5.pth'}
    assert read(tmp_path / 'iter_5.pth')['meta']['iter'] == 5


@pytest.fixture
def full_disk(monkeypatch):
    """Make the disk full when the second epoch's checkpoint is written, half of it being there."""

    def sync(descriptor: int) -> None:
        target = Path(f'/proc/self/fd/{descriptor}').resolve()
        if target.name.startswith('epoch_2.pth'):
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(atomic_files.os, 'fsync', sync)


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, full_disk):
    with pytest.raises(RuntimeError, match=r'epoch_2\.pth.*No space left on device.* MB free'):
        train(classifier(), tmp_path, **settings([0.1, 0.2]))

    assert names(tmp_path) == {'best_score_epoch_1.pth', 'epoch_1.pth'}
    assert is_whole(tmp_path / 'epoch_1.pth')
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')


def test_what_a_killed_training_left_unfinished_is_removed(tmp_path):
    run, checkpoints = tmp_path / 'run', tmp_path / 'checkpoints' / 'run'
    for folder, name in ((run, 'student_best.py'), (checkpoints, 'epoch_9.pth')):
        folder.mkdir(parents=True)
        (folder / f'{name}.77.partial').write_bytes(b'half')
        (folder / 'notes.partial').write_bytes(b'not ours')
    cfg = {**settings([0.1], out_dir=str(checkpoints.parent)), **NO_VALIDATION}

    train(classifier(), run, **cfg)

    left = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob('*.partial')}
    assert left == {'run/notes.partial', 'checkpoints/run/notes.partial'}
    assert (checkpoints / 'epoch_1.pth').exists()
