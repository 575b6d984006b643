"""Tests of tools/analysis_tools/check_configs.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.configs import write_baseline, write_pair
from tests.models.distillers.helpers import STAGES, review
from tests.tools import in_process

ROOT = Path(__file__).resolve().parents[2]


def run_tool(*args: str) -> int:
    """Run the tool in this process and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        in_process.run_tool('analysis_tools/check_configs.py', *args)
    return caught.value.code


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_broken(file: Path) -> str:
    return write_pair(file, transfers=dict(review=review(student=['backbone.layr1', *STAGES[1:]])))


def test_a_broken_config_fails_and_the_next_is_still_checked(folder, capsys):
    write_broken(folder / 'broken.py')
    write_pair(folder / 'pair.py')

    code = run_tool('broken.py', 'pair.py', '--json', 'found/checks.json')

    assert code == 1
    shown = capsys.readouterr().out
    assert 'error: broken.py: transfers.review.student' in shown
    assert '2 configs: 1 ready, 0 incomplete, 1 broken: broken.py' in shown
    broken, pair = json.loads(Path('found/checks.json').read_text())
    assert (broken['config'], broken['status']) == ('broken.py', 'broken')
    assert (pair['config'], pair['status'], pair['error']) == ('pair.py', 'ready', None)
    assert len(pair['transfers']['review']['shapes']['connected']) == len(STAGES)


def test_what_is_missing_fails_only_if_that_is_asked_for(folder, capsys):
    write_pair(folder / 'pair.py', teacher_ckpt='teacher.pth')

    assert run_tool('pair.py') == 0
    assert "missing: teacher_ckpt='teacher.pth'" in capsys.readouterr().out
    assert run_tool('pair.py', '--strict', '--no-flops') == 1
    options = ['--cfg-options', 'model.teacher_ckpt=random']
    assert run_tool('pair.py', '--strict', '--no-flops', *options) == 0
    url = ['--cfg-options', 'model.teacher_ckpt=https://example.org/teacher-12345678.pth']
    assert run_tool('pair.py', '--strict', '--no-flops', *url) == 0
    assert 'will be downloaded: https://example.org/teacher-12345678.pth' in (
        capsys.readouterr().out
    )


def test_a_baseline_and_another_image_size(folder, capsys):
    write_baseline(folder / 'student.py')

    assert run_tool('student.py', '--image-size', '48', '64') == 0
    shown = capsys.readouterr().out
    assert '48 x 64 (--image-size)' in shown
    assert 'tap' not in shown
    assert '1 configs' not in shown


def test_an_image_size_of_nothing_is_refused(folder):
    assert run_tool('student.py', '--image-size', '0', '64') == 2


def test_without_arguments_the_projects_configs_are_checked(folder, capsys, monkeypatch):
    for name in ('baselines', '_base_'):
        (folder / 'configs' / name).mkdir(parents=True)
        write_baseline(folder / 'configs' / name / f'of_{name}.py')
    monkeypatch.setattr('reviewkd_mm.cli.config_check.CONFIG_FOLDERS', (folder / 'configs',))

    assert run_tool('--json', 'all.json') == 0
    (only,) = json.loads(Path('all.json').read_text())
    assert Path(only['config']).name == 'of_baselines.py'


def test_two_configs_of_the_project(folder, capsys):
    configs = [
        ROOT / 'configs' / 'reviewkd' / 'resnet56_resnet20_cifar100.py',
        ROOT / 'configs' / 'baselines' / 'resnet20_cifar100.py',
    ]
    assert run_tool(*map(str, configs), '--json', 'checks.json') == 0
    assert '2 configs: ' in capsys.readouterr().out
    pair, baseline = json.loads((folder / 'checks.json').read_text())
    student, teacher = pair['networks']['student'], pair['networks']['teacher']
    assert baseline['networks']['model'] == student
    # As published: 0.28 and 0.86 million parameters, 41 and 126 million multiply-adds.
    assert round(student['parameters'] / 1e6, 2) == 0.28
    assert round(teacher['parameters'] / 1e6, 2) == 0.86
    assert student['flops'] / 1e6 == pytest.approx(41, rel=0.02)
    assert teacher['flops'] / 1e6 == pytest.approx(126, rel=0.02)
    assert any('cifar100' in line for line in pair['missing'])
