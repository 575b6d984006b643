"""A training that is killed again and again ends as if nothing had happened."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import Tensor

from reviewkd_mm.files.whole_checkpoints import is_whole
from tests.stress.training_process import ROOT, Training

pytestmark = pytest.mark.stress

KILLS = 20
EPOCHS = 6
CONFIG = f"""
_base_ = '{ROOT}/configs/reviewkd/resnet20_resnet8_digits.py'
randomness = dict(seed=3, deterministic=True)
model = dict(teacher_ckpt='random')
train_cfg = dict(max_epochs={EPOCHS})
train_dataloader = dict(
    num_workers=2, persistent_workers=True, dataset=dict(num_train=20)
)
val_dataloader = dict(dataset=dict(indices=200))
param_scheduler = dict(T_max={EPOCHS})
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""


class Folder:
    """The work dir of a training that is killed, and what has to be true of it at any moment."""

    def __init__(self, path: Path, config: Path) -> None:
        path.mkdir()
        self.path, self.log = path, path / 'output.log'
        self.arguments = [str(config), '--work-dir', str(path), '--resume']

    def start(self, largest_file: int | None = None) -> Training:
        """Start or resume the training."""
        return Training(self.arguments, self.log, largest_file)

    def is_writing(self) -> bool:
        """Tell whether a file is being written."""
        return any(self.path.glob('*.partial'))

    def check(self) -> None:
        """Check that what is there can be read."""
        checkpoints = list(self.path.glob('*.pth'))
        for file in checkpoints:
            assert is_whole(file), file
            torch.load(file, map_location='cpu', weights_only=False)
        for file in self.path.glob('student_*.py'):
            assert Config.fromfile(file).model.type == 'ImageClassifier'
        last = self.path / 'last_checkpoint'
        if last.exists():
            assert Path(last.read_text()) in checkpoints
        else:
            assert not any(file.name.startswith('best') for file in checkpoints)


def results(folder: Path) -> dict[str, Tensor]:
    """Return all that a training has learned, by name."""
    last = torch.load(folder / f'epoch_{EPOCHS}.pth', map_location='cpu', weights_only=False)
    found: dict[str, Tensor] = {}
    for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random_state'):
        _flatten(last[key], key, found)
    hub = last['message_hub']
    for name, scalars in hub['log_scalars'].items():
        if not name.endswith('time'):
            found[name] = torch.as_tensor(scalars.data[0])
    found['best'] = torch.tensor(hub['runtime_info']['best_score'])
    for name in ('student_best.pth', 'student_last.pth'):
        _flatten(torch.load(folder / name, map_location='cpu')['state_dict'], name, found)
    return found


def _flatten(value: Any, name: str, found: dict[str, Tensor]) -> None:
    if isinstance(value, dict):
        value = value.items()
    elif isinstance(value, (list, tuple)):
        value = enumerate(value)
    elif isinstance(value, (int, float, Tensor)):
        found[name] = torch.as_tensor(value)
        return
    else:
        return
    for key, item in value:
        _flatten(item, f'{name}.{key}', found)


def different(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert set(one) == set(other)
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp('config') / 'pair.py'
    file.write_text(CONFIG)
    return file


@pytest.fixture(scope='module')
def straight(config, tmp_path_factory) -> tuple[dict[str, Tensor], float]:
    """What an undisturbed training leaves, and how long it takes."""
    folder = Folder(tmp_path_factory.mktemp('straight') / 'run', config)
    training = folder.start()
    assert training.wait() == 0, folder.log.read_text()[-2000:]
    return results(folder.path), time.monotonic() - training.started


def test_killed_trainings_end_as_the_undisturbed_one(config, straight, tmp_path):
    expected, seconds = straight
    draw = random.Random(0)
    kills, in_writing, finished = 0, 0, 0
    while kills < KILLS or not finished:
        folder = Folder(tmp_path / f'run_{finished}', config)
        while True:
            training = folder.start()
            at_writing = draw.random() < 0.5
            moment = _moment(folder, training.started, draw, seconds, at_writing)
            # The last training that is begun may end.
            killed = kills < KILLS and training.kill_when(moment)
            if not killed:
                assert training.wait() == 0, folder.log.read_text()[-2000:]
                break
            kills += 1
            in_writing += folder.is_writing()
            folder.check()
        finished += 1
        folder.check()
        assert different(results(folder.path), expected) == []
        assert not folder.is_writing()
    print(f'{kills} kills, {in_writing} within a write, {finished} trainings came to their end')
    assert in_writing >= KILLS // 5


def _moment(
    folder: Folder, started: float, draw: random.Random, seconds: float, at_writing: bool
) -> Callable[[], bool]:
    """Return what tells that it is time: at random, or within the write that comes then."""
    # A kill before the first checkpoint of a start makes no progress: not all may be so early.
    due = started + seconds * draw.uniform(0.1, 0.7)
    if not at_writing:
        return lambda: time.monotonic() >= due
    return lambda: time.monotonic() >= due and folder.is_writing()


def test_a_full_disk_ends_a_training_with_a_message_and_spoils_nothing(config, straight, tmp_path):
    expected, _ = straight
    folder = Folder(tmp_path / 'run', config)
    saved = folder.path / 'epoch_2.pth'
    assert folder.start().kill_when(saved.exists)
    size = saved.stat().st_size
    checkpoints = {file.name for file in folder.path.glob('*.pth')}

    assert folder.start(largest_file=size // 2).wait() == 1

    log = folder.log.read_text()
    assert 'error: ' in log
    assert 'could not be written (File too large)' in log
    assert 'Traceback' not in log
    assert checkpoints <= {file.name for file in folder.path.glob('*.pth')}
    folder.check()
    assert folder.start().wait() == 0
    assert different(results(folder.path), expected) == []


def test_a_damaged_last_checkpoint_is_passed_over(config, straight, tmp_path):
    expected, _ = straight
    folder = Folder(tmp_path / 'run', config)
    assert folder.start().kill_when((folder.path / 'epoch_3.pth').exists)
    newest = folder.path / 'epoch_3.pth'
    (folder.path / 'last_checkpoint').write_text(str(newest))
    newest.write_bytes(newest.read_bytes()[:-100])

    assert folder.start().wait() == 0

    log = folder.log.read_text()
    assert f"'{newest}' cannot be read; resuming from '{folder.path / 'epoch_2.pth'}'" in log
    assert different(results(folder.path), expected) == []
