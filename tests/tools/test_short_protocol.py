"""Tests of tools/benchmarks/short_protocol.py, with a script that only pretends to train."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reviewkd_mm.runs import queue

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks' / 'short_protocol.py'
EPOCHS = 3

# Its work dir is MMEngine's. Files beside it tell it what goes wrong.
STUB = """
import argparse, json, os, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument('config')
parser.add_argument('--work-dir')
parser.add_argument('--resume', nargs='?', const='auto')
parser.add_argument('--cfg-options', nargs='+')
args = parser.parse_args()
here, work_dir = Path(__file__).parent, Path(args.work_dir)
options = dict(option.split('=') for option in args.cfg_options)
config = Path(args.config).read_text() + f"randomness = dict(seed={options['randomness.seed']})"
first, last = 1, work_dir / 'last_checkpoint'
if args.resume:
    found = last.read_text() if args.resume == 'auto' else args.resume
    first = int(Path(found).stem.split('_')[1]) + 1
with (here / 'calls').open('a') as file:
    file.write(json.dumps([work_dir.name, first, os.getpid(), args.cfg_options]) + '\\n')
folder = work_dir / f'20260101_{len(list(work_dir.glob("2026*"))):06d}' / 'vis_data'
folder.mkdir(parents=True)
for file in (folder / 'config.py', work_dir / Path(args.config).name):
    file.write_text(config)
if (here / f'fail_{work_dir.name}').exists():
    sys.exit('out of luck')
with (folder / 'scalars.json').open('a') as log:
    for epoch in range(first, 4):
        print(json.dumps(dict(loss=1, epoch=epoch, iter=epoch, step=epoch)), file=log, flush=True)
        if (here / 'slow').exists() and epoch > 1:
            (here / 'waiting').touch()
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                (here / 'cleaned_up').touch()
                raise
        time.sleep(0.02)
        (work_dir / f'epoch_{epoch}.pth').write_text('weights')
        last.write_text(str(work_dir / f'epoch_{epoch}.pth'))
        if epoch == 3 and (here / 'no_last_validation').exists():
            break
        line = {'accuracy/top1': 10 * epoch + int(options['randomness.seed']), 'step': epoch}
        print(json.dumps(line), file=log, flush=True)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Write the script and two configs; make their folder the current one."""
    (tmp_path / 'stub.py').write_text(STUB)
    for name in ('one', 'two'):
        text = f'train_cfg = dict(by_epoch=True, max_epochs={EPOCHS})\nval_cfg = dict()\n'
        (tmp_path / f'{name}.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queue, 'WAIT_SECONDS', 0.05)
    return tmp_path


def drive(*args: str) -> int:
    """Run the tool in this process and return its exit status."""
    options = ['--train-script', 'stub.py', '--work-dir', 'runs']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [TOOL.name, *args, *options])
        patch.setattr(sys, 'path', [*sys.path])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(TOOL), run_name='__main__')
    if isinstance(caught.value.code, str):
        print(caught.value.code, file=sys.stderr)
        return 1
    return caught.value.code or 0


def start(*args: str) -> multiprocessing.Process:
    """Run the tool in a process of its own, whose imports are this one's."""
    process = multiprocessing.get_context('fork').Process(target=lambda: sys.exit(drive(*args)))
    process.start()
    return process


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, 'it took too long'
        time.sleep(0.02)


def calls(folder: Path) -> list[tuple[str, int]]:
    """Return the name and first epoch of each training that was begun."""
    file = folder / 'calls'
    lines = file.read_text().splitlines() if file.exists() else []
    return [tuple(json.loads(line)[:2]) for line in lines]


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def last_accuracies(folder: Path) -> dict[str, str]:
    with (folder / 'runs' / 'results.csv').open(newline='') as file:
        return {row['config']: row['last'] for row in csv.DictReader(file)}


def test_every_config_is_trained_with_every_seed_in_order(folder):
    status = drive('two.py', 'one.py', '--seeds', '0', '2', '--cfg-options', 'a.b=1')

    assert status == 0
    names = ['two_seed0', 'two_seed2', 'one_seed0', 'one_seed2']
    assert calls(folder) == [(name, 1) for name in names]
    options = json.loads((folder / 'calls').read_text().splitlines()[1])[3]
    assert options == ['randomness.seed=2', 'a.b=1']
    assert last_accuracies(folder) == {'one': '31.0', 'two': '31.0'}  # mean of 30 and 32
    assert (folder / 'runs' / 'results.md').is_file()
    assert (folder / 'runs' / 'results.png').is_file()


def test_finished_trainings_are_not_repeated(folder, capsys):
    drive('one.py', '--seeds', '0', '1')
    before = calls(folder)
    status = drive('one.py', '--seeds', '0', '1')

    assert status == 0
    assert calls(folder) == before
    assert 'one_seed1: finished already' in capsys.readouterr().out


def test_a_failed_training_is_named_and_tried_again_next_time(folder, capsys):
    (folder / 'fail_one_seed0').touch()
    assert drive('one.py', 'two.py', '--seeds', '0') == 1

    printed = capsys.readouterr()
    assert 'one_seed0: failed: exit status 1' in printed.err
    assert 'out of luck' in printed.err
    assert printed.out.splitlines()[-1] == 'failed: one_seed0'
    assert last_accuracies(folder)['two'] == '30.0'

    (folder / 'fail_one_seed0').unlink()
    assert drive('one.py', 'two.py', '--seeds', '0') == 0
    assert calls(folder) == [('one_seed0', 1), ('two_seed0', 1), ('one_seed0', 1)]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_queue_goes_on_where_it_was(folder, number):
    assert drive('one.py', '--seeds', '0') == 0
    (folder / 'slow').touch()
    driver = start('one.py', '--seeds', '0', '1', '2')
    wait_for((folder / 'waiting').exists)
    os.kill(driver.pid, number)
    driver.join(30)

    assert driver.exitcode == 128 + number
    assert (folder / 'cleaned_up').exists()
    child = json.loads((folder / 'calls').read_text().splitlines()[-1])[2]
    assert not is_alive(child)
    assert (folder / 'runs' / 'results.csv').is_file()

    (folder / 'slow').unlink()
    assert drive('one.py', '--seeds', '0', '1', '2') == 0
    assert calls(folder) == [
        ('one_seed0', 1),
        ('one_seed1', 1),
        ('one_seed1', 2),
        ('one_seed2', 1),
    ]
    assert last_accuracies(folder) == {'one': '31.0'}


def test_a_training_that_does_not_stop_is_killed(folder, monkeypatch):
    stubborn = 'import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n'
    (folder / 'stub.py').write_text(stubborn + STUB)
    (folder / 'slow').touch()
    monkeypatch.setattr(queue, 'GRACE_SECONDS', 0.2)
    driver = start('one.py', '--seeds', '0')
    wait_for((folder / 'waiting').exists)
    os.kill(driver.pid, signal.SIGTERM)
    driver.join(30)

    assert driver.exitcode == 128 + signal.SIGTERM
    assert not is_alive(json.loads((folder / 'calls').read_text())[2])


def test_a_lost_validation_is_made_up_from_the_checkpoint_before(folder, capsys):
    (folder / 'no_last_validation').touch()
    assert drive('one.py', '--seeds', '0') == 1
    assert 'ended without the checkpoint or the validation' in capsys.readouterr().err

    (folder / 'no_last_validation').unlink()
    assert drive('one.py', '--seeds', '0') == 0
    assert calls(folder) == [('one_seed0', 1), ('one_seed0', 3)]
    assert last_accuracies(folder) == {'one': '30.0'}


def test_two_queues_share_the_work(folder):
    configs = ('one.py', 'two.py', '--seeds', '0', '1', '2')
    drivers = [start(*configs) for _ in range(2)]
    for driver in drivers:
        driver.join(60)

    assert [driver.exitcode for driver in drivers] == [0, 0]
    expected = [(f'{name}_seed{seed}', 1) for name in ('one', 'two') for seed in range(3)]
    assert sorted(calls(folder)) == expected


def test_a_killed_queue_leaves_its_training_locked_until_that_ends(folder):
    (folder / 'slow').touch()
    killed = start('one.py', '--seeds', '0')
    wait_for((folder / 'waiting').exists)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(30)
    (folder / 'slow').unlink()
    second = start('one.py', '--seeds', '0')
    time.sleep(0.5)
    assert calls(folder) == [('one_seed0', 1)], 'the first still trains'

    os.kill(json.loads((folder / 'calls').read_text())[2], signal.SIGKILL)
    second.join(30)
    assert second.exitcode == 0
    assert calls(folder) == [('one_seed0', 1), ('one_seed0', 2)]


def test_other_settings_do_not_pass_for_a_finished_training(folder, capsys):
    drive('one.py', '--seeds', '0', '--cfg-options', 'a=1')
    assert drive('one.py', '--seeds', '0', '--cfg-options', 'a=2') == 1

    assert calls(folder) == [('one_seed0', 1)]
    assert 'holds a training with other settings' in capsys.readouterr().err


def test_configs_of_one_name_get_folders_of_their_own(folder):
    for name in ('x', 'y'):
        (folder / name).mkdir()
        (folder / name / 'one.py').write_text((folder / 'one.py').read_text())
    drive('x/one.py', 'y/one.py', 'x/one.py', 'two.py', '--seeds', '0')

    assert calls(folder) == [('x_one_seed0', 1), ('y_one_seed0', 1), ('two_seed0', 1)]


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('oen.py',), "config='oen.py': no such file; the nearest are one.py"),
        (('one.py', '--cfg-options', 'a'), "--cfg-options 'a': expected KEY=VALUE"),
        (('one.py', '--cfg-options', 'randomness.seed=1'), 'expected the seeds as --seeds'),
    ],
)
def test_what_cannot_work_is_said_before_any_training(folder, capsys, args, message):
    assert drive(*args) == 1

    assert message in capsys.readouterr().err
    assert calls(folder) == []


def test_a_table_that_cannot_be_written_stops_no_training(folder, capsys):
    (folder / 'runs' / 'results.md').mkdir(parents=True)

    assert drive('one.py', '--seeds', '0') == 0
    assert 'the table was not written' in capsys.readouterr().err
