"""Reading trainings from what they logged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reviewkd_mm.runs import find_runs, read_run
from tests.runs.logs import config, epochs, train, val, write_run, write_start

ITERATIONS = (
    "train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=5)\nval_cfg = dict()\n"
)


def accuracies(work_dir: Path) -> dict[int, float]:
    return read_run(work_dir).metric('accuracy/top1')


def save(work_dir: Path, name: str) -> None:
    (work_dir / name).write_bytes(b'weights')
    (work_dir / 'last_checkpoint').write_text(f'/elsewhere/{name}')


def test_a_run_says_what_it_is(tmp_path):
    lines = [
        train(1, 5, loss=3.0, loss_cls=2.0, loss_review=1.0),
        train(1, 10, loss=5.0, loss_cls=2.0, loss_review=3.0),
        val(1, 10.0),
        train(2, 15, loss=6.0, loss_cls=2.0, loss_review=4.0),
    ]
    run = read_run(write_run(tmp_path / 'a', lines, config(epochs=7, seed=4), name='pair'))

    assert (run.name, run.seed, run.unit, run.done, run.total) == ('pair', 4, 'epoch', 1, 7)
    assert run.problems == []
    assert run.losses == ['loss', 'loss_cls', 'loss_review']
    assert run.loss('loss_review') == {1: 2.0, 2: 4.0}
    assert run.ratio('review') == {1: 1.0, 2: 2.0}
    assert not run.is_complete


def test_the_task_loss_leaves_out_every_transfer(tmp_path):
    lines = [train(1, 1, loss=10.0, loss_rpn=1.0, loss_bbox=1.0, loss_a=2.0, loss_b=6.0)]
    run = read_run(write_run(tmp_path / 'a', lines, config(transfers=('a', 'b'))))

    assert run.ratio('a') == {1: 1.0}
    assert run.ratio('b') == {1: 3.0}


def test_a_later_start_counts_from_where_it_begins(tmp_path):
    text = config(epochs=4)
    lost = [train(4, 31, loss=99.0), train(4, 32, loss=99.0)]
    write_start(tmp_path, [*epochs([1, 2, 3]), *lost], 0, text)
    write_start(tmp_path, [train(3, 30, loss=5.0), val(3, 30), train(4, 33, loss=7.0)], 1, text)
    run = read_run(tmp_path)

    assert run.metric('accuracy/top1') == {1: 1, 2: 2, 3: 30}
    assert run.loss('loss') == {1: 1.0, 2: 1.0, 3: 5.0, 4: 7.0}
    assert (run.done, run.total) == (3, 4)


def test_a_training_begun_anew_has_nothing_of_the_old_one(tmp_path):
    write_start(tmp_path, epochs([50, 60, 70]), 0, config(epochs=3))
    write_start(tmp_path, epochs([5]), 1, config(epochs=9))
    save(tmp_path, 'epoch_3.pth')
    run = read_run(tmp_path)

    assert run.metric('accuracy/top1') == {1: 5}
    assert (run.done, run.total) == (1, 9)


def test_a_start_that_logged_nothing_takes_nothing_away(tmp_path):
    write_start(tmp_path, epochs([1, 2]), 0, config(epochs=2))
    write_start(tmp_path, None, 1, config(epochs=77))
    run = read_run(tmp_path)

    assert run.metric('accuracy/top1') == {1: 1, 2: 2}
    assert run.total == 2, 'a test in the same folder has a config of its own'


@pytest.mark.parametrize('by_epoch', [True, False])
def test_validations_of_iterations_are_put_where_they_were(tmp_path, by_epoch):
    # By MMEngine's default the step of such a validation is 0, whenever it was.
    at = {1: 0, 2: 0, 3: 0} if by_epoch else {1: 5, 2: 10, 3: 12}
    lines = [train(None, step) for step in (2, 4)]
    lines += [val(at[1], 1), *[train(None, step) for step in (6, 8, 10)]]
    lines += [val(at[2], 2), train(None, 12), val(at[3], 3)]
    run = read_run(write_run(tmp_path / 'a', lines, ITERATIONS))

    assert run.unit == 'iteration'
    assert run.metric('accuracy/top1') == {5: 1, 10: 2, 12: 3}
    assert (run.done, run.total) == (12, 12)


def test_validations_that_are_logged_by_iteration_count_as_epochs(tmp_path):
    text = config(more='default_hooks = dict(logger=dict(log_metric_by_epoch=False))')
    lines = [train(1, 10), val(10, 1), train(2, 20), val(20, 2)]

    assert accuracies(write_run(tmp_path / 'a', lines, text)) == {1: 1, 2: 2}


@pytest.mark.parametrize(
    ('saved', 'values', 'finished'),
    [
        ('epoch_3.pth', [1, 2, 3], True),
        ('epoch_2.pth', [1, 2, 3], False),
        ('epoch_3.pth', [1, 2], False),
        (None, [1, 2, 3], False),
    ],
)
def test_finished_is_the_last_checkpoint_and_its_validation(tmp_path, saved, values, finished):
    write_run(tmp_path / 'a', epochs(values))
    if saved:
        save(tmp_path / 'a', saved)

    assert read_run(tmp_path / 'a').is_finished is finished


def test_a_checkpoint_that_is_not_whole_does_not_count(tmp_path):
    write_run(tmp_path / 'a', epochs([1, 2, 3]))
    save(tmp_path / 'a', 'epoch_2.pth')
    (tmp_path / 'a' / 'epoch_3.pth').write_bytes(b'half')  # last_checkpoint comes after it

    assert not read_run(tmp_path / 'a').is_finished


def test_a_training_without_validation_is_finished_with_its_checkpoint(tmp_path):
    text = config(epochs=1).replace('val_cfg = dict()', 'val_cfg = None')
    write_run(tmp_path / 'a', [train(1, 10)], text)
    save(tmp_path / 'a', 'epoch_1.pth')
    run = read_run(tmp_path / 'a')

    assert run.is_finished
    assert run.done == 1


def test_a_log_cut_anywhere_gives_what_stands_before_the_cut(tmp_path):
    lines = [json.dumps(line).encode() + b'\n' for line in epochs([10, 20, 30])]
    whole = b''.join(lines)
    log = write_start(tmp_path, whole, 0, config())
    ends = [len(b''.join(lines[: count + 1])) for count in range(len(lines))]
    values = {1: 10, 3: 20, 5: 30}
    for cut in (0, *range(ends[2] - 1, len(whole) + 1)):
        log.write_bytes(whole[:cut])
        run = read_run(tmp_path)
        # A line is whole without its newline.
        there = [index for index, end in enumerate(ends) if cut >= end - 1]
        expected = {(i + 1) // 2: values[i] for i in there if i in values}
        assert run.metric('accuracy/top1') == expected, cut
        half = cut not in ends and cut + 1 not in ends and cut > 0
        assert any('half-written' in problem for problem in run.problems) is half, cut
        assert any('empty' in problem for problem in run.problems) is (cut == 0), cut


@pytest.mark.parametrize(
    'damage',
    [
        b'\x00\xff\xfe\x80',
        b'[1, 2]',
        b'17',
        b'null',
        b'{}',
        b'{"step": "one", "accuracy/top1": 1}',
        b'{"step": -1, "accuracy/top1": 1}',
        b'{"step": 2.5, "accuracy/top1": 1}',
        b'{"step": NaN}',
        b'{"iter": 1, "step": 1, "epoch": "x", "loss": 1}',
        b'[' * 100_000,
        b'{"step": ' + b'9' * 10_000 + b'}',
        b'{"loss": 1, "it{"loss": 1, "iter": 1, "step": 1}',
    ],
    ids=repr,
)
def test_a_damaged_line_is_named_and_left_out(tmp_path, damage):
    good = [json.dumps(line).encode() for line in epochs([10, 20])]
    write_run(tmp_path / 'a', b'\n'.join([*good[:2], damage, *good[2:]]))
    run = read_run(tmp_path / 'a')

    assert run.metric('accuracy/top1') == {1: 10, 2: 20}
    (problem,) = run.problems
    assert problem.endswith('line 3')


def test_values_that_are_no_numbers_are_left_out(tmp_path):
    odd = {'accuracy/top1': 'high', 'b': None, 'c': True, 'd': [1], 'e': 10**400, 'f': 2}
    write_run(tmp_path / 'a', [train(1, 10), {**odd, 'step': 1}])

    assert read_run(tmp_path / 'a').validations == {1: {'f': 2.0}}


@pytest.mark.parametrize('text', ['train_cfg = dict(', "raise KeyError('x')", 'total = 1 / 0'])
def test_a_damaged_config_is_named(tmp_path, text):
    run = read_run(write_run(tmp_path / 'a', epochs([10]), text))

    assert run.config is None
    assert run.total is None
    assert run.metric('accuracy/top1') == {1: 10}
    assert 'no config could be read' in run.problems[0]


def test_a_dumped_config_stands_in_for_a_damaged_one(tmp_path):
    work_dir = write_run(tmp_path / 'a', epochs([10]), config(epochs=5))
    next(work_dir.glob('*/vis_data/config.py')).write_text('train_cfg = dict(')

    assert read_run(work_dir).total == 5


def test_without_a_config_a_run_goes_by_its_folder(tmp_path):
    write_start(tmp_path / 'folder', epochs([10, 20]))
    run = read_run(tmp_path / 'folder')

    assert (run.name, run.config, run.total, run.done) == ('folder', None, None, 2)
    assert 'it has no config' in run.problems[0]


def test_the_config_of_an_exported_student_is_not_the_runs(tmp_path):
    work_dir = write_run(tmp_path / 'folder', epochs([1]), name='pair')
    (work_dir / 'student_last.py').write_text('')
    (work_dir / 'student_last.pth').write_text('')

    assert read_run(work_dir).name == 'pair'


def test_runs_are_found_in_folders_of_runs_once(tmp_path):
    for name in 'ba':
        write_run(tmp_path / name, [])
    (tmp_path / 'none').mkdir()
    file = tmp_path / 'file'
    file.write_text('')
    runs, problems = find_runs([tmp_path, tmp_path / 'b', tmp_path / 'none', file, 'no/where'])

    assert runs == [tmp_path / 'a', tmp_path / 'b']
    assert [problem.partition(':')[0] for problem in problems] == [
        str(tmp_path / 'none'),
        str(file),
        'no/where',
    ]
