"""Trainings in two processes through the tools: with DistributedDataParallel and with FSDP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from tests.numbers import assert_close64

pytestmark = pytest.mark.stress

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
TIMEOUT = 600  # seconds; an idle machine needs 30
BATCH_SIZE, IMAGES = 20, 100
# In float64, so that two ways to the same weights can be told from two trainings.
CONFIG = f"""
__import__('torch').set_default_dtype(__import__('torch').float64)
_base_ = '{ROOT}/configs/reviewkd/resnet20_resnet8_digits.py'
model = dict(
    student=dict(backbone=dict(base_channels=(8, 16, 16, 32))),
    teacher_ckpt='random',
    transfers=dict(review=dict(warmup_epochs=0)),
)
train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size={BATCH_SIZE}, dataset=dict(num_train={IMAGES // 10}))
val_dataloader = dict(dataset=dict(indices=50))
optim_wrapper = dict(optimizer=dict(lr=0.01))
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=5)
"""
FSDP = """
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    state_dict_cfg='full',
    model_wrapper=dict(
        type='MMFullyShardedDataParallel', use_orig_params=True, device_id='cpu'
    ),
)
"""


def start(folder: Path, *command: str | Path) -> str:
    """Run a tool to its end and return what it printed."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        port = str(listener.getsockname()[1])
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    settings = dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PATH=path, PORT=port)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def load(path: Path) -> dict:
    return torch.load(path, map_location='cpu', weights_only=False)


def logged(work_dir: Path) -> list[dict]:
    """Read the scalars of all trainings in a work dir, oldest first."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope='module')
def parallel(tmp_path_factory) -> tuple[Path, str]:
    """Train one epoch in two processes."""
    folder = tmp_path_factory.mktemp('parallel')
    (folder / 'plain.py').write_text(CONFIG)
    output = start(folder, TOOLS / 'dist_train.sh', 'plain.py', '2', '--work-dir', 'two')
    return folder, output


def test_two_processes_distil(parallel):
    folder, output = parallel
    steps = [record for record in logged(folder / 'two') if 'loss_review' in record]

    assert len(steps) == -(-IMAGES // (2 * BATCH_SIZE))
    assert all(step['loss_review'] > 0 for step in steps)
    assert 'Grad strides do not match' not in output
    wrapper = Config.fromfile(folder / 'two' / 'plain.py').model_wrapper_cfg
    assert wrapper.find_unused_parameters is False
    assert {key.split('.')[0] for key in load(folder / 'two/epoch_1.pth')['state_dict']} == {
        'student',
        'transfers',
    }
    assert (folder / 'two' / 'student_last.pth').is_file()


def test_one_process_goes_on_where_two_have_stopped(parallel):
    folder, _ = parallel
    first = load(folder / 'two' / 'epoch_1.pth')

    start(
        folder,
        *(sys.executable, TOOLS / 'train.py', 'plain.py', '--work-dir', 'one'),
        *('--resume', folder / 'two' / 'epoch_1.pth'),
        *('--cfg-options', 'train_cfg.max_epochs=2'),
    )

    second = load(folder / 'one' / 'epoch_2.pth')
    assert second['meta']['epoch'] == 2
    assert second['meta']['iter'] == first['meta']['iter'] + IMAGES // BATCH_SIZE
    momenta = [len(c['optimizer']['state']) for c in (first, second)]
    assert momenta[0] == momenta[1] > 0
    assert any(record.get('loss_review', 0) > 0 for record in logged(folder / 'one'))


def test_fsdp_ends_with_the_weights_of_ddp(parallel):
    folder, _ = parallel
    (folder / 'fsdp.py').write_text(CONFIG + FSDP)

    start(folder, TOOLS / 'dist_train.sh', 'fsdp.py', '2', '--work-dir', 'fsdp')

    states = [load(folder / name / 'epoch_1.pth')['state_dict'] for name in ('fsdp', 'two')]
    assert list(states[0]) == list(states[1])
    floating = [{n: x for n, x in s.items() if x.is_floating_point()} for s in states]
    assert_close64(*floating)
    exported = folder / 'fsdp' / 'student_last.pth'
    assert Config.fromfile(exported.with_suffix('.py')).model.type == 'ImageClassifier'
    assert not any(name.startswith('student.') for name in load(exported)['state_dict'])
