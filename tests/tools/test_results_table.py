"""Tests of tools/analysis_tools/results_table.py."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import mmcv
import pytest

from reviewkd_mm.runs import reports
from tests.runs.logs import config, epochs, write_run, write_start
from tests.tools.in_process import run_tool

TOOL = 'analysis_tools/results_table.py'


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / 'results.csv').open(newline='') as file:
        return list(csv.DictReader(file))


def test_runs_become_a_table_in_three_files(tmp_path, capsys):
    name = 'resnet56_resnet20_kd_cifar100_short'
    for seed, last in enumerate((40.0, 44.0)):
        text = config(seed=seed)
        write_run(tmp_path / f's{seed}', epochs([10, 20, last]), text, name)
    write_run(tmp_path / 'mine', epochs([30]), name='mine')
    run_tool(TOOL, tmp_path, '--out', tmp_path / 'out')

    mine, short = read_csv(tmp_path / 'out')
    assert (short['config'], short['last'], short['seeds']) == (name, '42.0', '0, 1')
    assert (short['published'], short['last_difference']) == ('', '')
    assert (mine['config'], mine['last'], mine['done'], mine['total']) == (
        'mine',
        '30.0',
        '1',
        '3',
    )
    markdown = (tmp_path / 'out' / 'results.md').read_text()
    assert '42.00 ± 2.83' in markdown  # 2 / sqrt(1) * sqrt(2)
    assert '1 of 3 epochs' in markdown
    assert markdown in capsys.readouterr().out
    picture = mmcv.imread(str(tmp_path / 'out' / 'results.png'))
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3)}) > 10, 'it is not blank'
    assert sorted(file.name for file in (tmp_path / 'out').iterdir()) == [
        'results.csv',
        'results.md',
        'results.png',
    ]


def test_a_table_without_numbers_leaves_no_old_picture(tmp_path, capsys):
    write_run(tmp_path / 'a', epochs([1]))
    run_tool(TOOL, tmp_path / 'a', '--out', tmp_path)
    write_start(tmp_path / 'a', b'', 1, config())
    log = next(tmp_path.glob('a/20260101_000000/vis_data/scalars.json'))
    log.write_bytes(b'')
    run_tool(TOOL, tmp_path / 'a', '--out', tmp_path)

    assert not (tmp_path / 'results.png').exists()
    assert [row['last'] for row in read_csv(tmp_path)] == ['']
    problems = capsys.readouterr().err
    assert 'it is empty' in problems
    assert 'no validation yet' in problems


def test_a_damaged_run_is_named_and_the_others_are_shown(tmp_path, capsys):
    lines = b'\n'.join(json.dumps(line).encode() for line in epochs([10, 20]))
    write_run(tmp_path / 'cut', lines[:-9])
    write_run(tmp_path / 'good', epochs([30]))
    run_tool(
        TOOL, tmp_path / 'cut', tmp_path / 'good', tmp_path / 'gone', '--out', tmp_path / 'out'
    )

    assert [row['last'] for row in read_csv(tmp_path / 'out')] == ['10.0', '30.0']
    problems = capsys.readouterr().err
    assert f'{tmp_path / "gone"}: there is no such folder' in problems
    assert 'half-written, and left out: line 4' in problems


def test_no_run_at_all_is_an_error_of_one_line(tmp_path):
    with pytest.raises(SystemExit) as caught:
        run_tool(TOOL, tmp_path, '--out', tmp_path / 'out')

    assert str(caught.value.code).startswith(f'error: {tmp_path}: expected work dirs')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('part', ['log', 'config'])
def test_no_damage_ends_in_a_traceback(tmp_path, monkeypatch, part):
    # Drawing and YAML take the time.
    listed = reports.read_metafiles()
    monkeypatch.setattr(reports, 'read_metafiles', lambda: listed)
    monkeypatch.setattr(reports, 'to_png', lambda figure: b'')
    work_dir = write_run(tmp_path / 'a', epochs([10, 20, 30]), name='resnet20_cifar100')
    file = next(work_dir.glob(f'*/vis_data/{dict(log="scalars.json", config="config.py")[part]}'))
    whole = file.read_bytes()
    (work_dir / 'resnet20_cifar100.py').write_text('train_cfg = dict(')
    step = 1 if part == 'log' else 7
    start = len(whole) - 160 if part == 'log' else 0
    for cut in range(start, len(whole), step):
        file.write_bytes(whole[:cut])
        reports.write_results([work_dir], tmp_path / 'out')
        (row,) = read_csv(tmp_path / 'out')
        assert row['last_difference'] == ''
