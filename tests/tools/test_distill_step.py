"""The benchmark of a distillation step: what it times, in which order, and its arithmetic."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

from tests.models.distillers.detection import retinanet
from tests.models.distillers.helpers import assert_same_state, distiller_cfg, review, state_of

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'benchmarks' / 'distill_step.py'


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[TOOL.stem] = module  # Its dataclass looks itself up.
    spec.loader.exec_module(module)
    return module


tool = load_tool()


@pytest.fixture
def config(tmp_path) -> str:
    """A tiny pair, its student with weights that would have to be downloaded."""
    student = retinanet()
    student['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='torchvision://resnet18')
    student['backbone']['frozen_stages'] = 1
    model = distiller_cfg(
        student=student,
        teacher=retinanet(width=6, channels=12),
        teacher_ckpt='weights/of/a/teacher.pth',
        transfers=dict(review=review(student='neck', teacher='neck')),
    )
    file = tmp_path / 'tiny_pair.py'
    file.write_text(f"default_scope = 'mmdet'\nmodel = {model!r}\n")
    return str(file)


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r'\d+\.\d+', line)]


def test_the_table(config, capsys):
    threads = torch.get_num_threads()
    tool.main(['--config', config, '--image-size', '96', '--rounds', '1'])

    lines = capsys.readouterr().out.splitlines()
    rows = {line.split('│')[1].strip(): numbers(line) for line in lines if line.startswith('│')}
    student, teacher, transfers, total, step, ratio = rows.values()
    assert list(rows) == [
        'student step alone',
        'teacher features',
        'transfers alone',
        'sum of the three',
        'distilled step',
        'distilled step / sum',
    ]
    for wall_or_cpu in (0, 2):
        parts = [row[wall_or_cpu] for row in (student, teacher, transfers)]
        assert all(part > 0 for part in parts)
        assert total[wall_or_cpu] == pytest.approx(sum(parts), abs=2e-4)
        assert ratio[wall_or_cpu // 2] == pytest.approx(
            step[wall_or_cpu] / total[wall_or_cpu], rel=0.02
        )
        assert step[wall_or_cpu + 1] == pytest.approx(step[wall_or_cpu] / parts[0], rel=0.02)
    output = ' '.join(lines)
    assert 'tiny_pair' in output
    assert '2 images of 96 px, medians of 1 rounds' in output
    assert torch.get_num_threads() == threads
    assert logging.root.manager.disable == logging.NOTSET


def test_medians_of_runs_in_turn(monkeypatch):
    calls, durations = [], {'a': iter([50, 9, 1, 2]), 'b': iter([60, 3, 5, 100])}
    parts = {name: lambda name=name: calls.append(name) for name in 'ab'}

    def fake_time(run):
        run()
        seconds = float(next(durations[calls[-1]]))
        return tool.Timing(seconds, 2 * seconds)

    monkeypatch.setattr(tool, '_time', fake_time)
    timings = tool.measure(parts, rounds=3, warmup=1)

    assert calls == ['a', 'b'] * 4
    assert timings == {'a': tool.Timing(2, 4), 'b': tool.Timing(5, 10)}


def test_wall_and_cpu_time_are_those_of_the_run(monkeypatch):
    monkeypatch.setattr(tool.time, 'perf_counter', iter([10.0, 13.5]).__next__)
    monkeypatch.setattr(tool.time, 'process_time', iter([1.0, 1.5]).__next__)
    assert tool._time(lambda: None) == tool.Timing(3.5, 0.5)


def test_summary():
    seconds = {tool.STUDENT: 4.0, tool.TEACHER: 2.0, tool.TRANSFERS: 2.0, tool.DISTILLED: 10.0}
    rows = tool.summarize({name: tool.Timing(s, 2 * s) for name, s in seconds.items()})
    assert rows[tool.SUM] == tool.Timing(8, 16)
    assert rows[tool.RATIO] == tool.Timing(1.25, 1.25)


def test_the_parts_are_those_of_the_step(config):
    distiller, student = tool.build_pair(Config.fromfile(config), 'cpu')
    batch = tool.generate_batch(student, batch_size=2, image_size=64)
    frozen = {name for name, p in student.named_parameters() if not p.requires_grad}
    assert {n for n, p in distiller.student.named_parameters() if not p.requires_grad} == frozen
    assert any(name.startswith('backbone.layer1.') for name in frozen)
    assert all(m.training == n.training for m, n in _pairs(distiller.student, student))

    seen = []
    distiller.teacher.neck.register_forward_hook(
        lambda *args: seen.append(torch.is_grad_enabled())
    )
    parts = tool.build_parts(distiller, student, batch)
    weights, teacher = state_of(student), state_of(distiller.teacher)
    alone = parts[tool.STUDENT]()
    seen.clear()
    parts[tool.TEACHER]()
    assert seen == [False]
    parts[tool.TRANSFERS]()
    together = parts[tool.DISTILLED]()

    assert seen == [False, False]
    assert set(together) == {*alone, 'loss_review'}
    for name in ('loss_cls', 'loss_bbox'):
        torch.testing.assert_close(together[name], alone[name])
    # A learning rate of 0: the next round is the same step.
    parameters = {name: weights[name] for name, _ in student.named_parameters()}
    assert_same_state({n: p.detach() for n, p in student.named_parameters()}, parameters)
    assert_same_state(state_of(distiller.teacher), teacher)


def test_transfers_alone_compute_the_loss_and_gradients_of_the_step(config):
    distiller, student = tool.build_pair(Config.fromfile(config), 'cpu')
    batch = tool.generate_batch(student, batch_size=2, image_size=64)
    data = distiller.data_preprocessor(batch, True)
    expected = distiller(**data, mode='loss')['loss_review']

    transfer = tool._detach(distiller, 'review', data['inputs'], data['data_samples'])
    loss = transfer()
    loss.backward()

    torch.testing.assert_close(loss, expected)
    assert all(p.grad is not None for p in transfer.parameters())
    leaves = transfer.student_recorder.features()
    assert all(leaf.is_leaf and leaf.grad is not None for leaf in leaves)
    assert not any(target.requires_grad for target in transfer.teacher_recorder.features())
    assert all(p.grad is None for p in distiller.parameters())


def test_a_classifier(tmp_path, capsys):
    file = tmp_path / 'classifiers.py'
    file.write_text(f"default_scope = 'mmpretrain'\nmodel = {distiller_cfg()!r}\n")
    tool.main(['--config', str(file), '--image-size', '32', '--batch-size', '4', '--rounds', '1'])
    assert 'distilled step / sum' in capsys.readouterr().out


def test_a_config_without_a_distiller_is_refused(tmp_path):
    file = tmp_path / 'alone.py'
    file.write_text(f"default_scope = 'mmdet'\nmodel = {retinanet()!r}\n")
    with pytest.raises(SystemExit, match=r'error: --config .*alone.py: its model has no student'):
        tool.main(['--config', str(file)])


@pytest.mark.parametrize('value', ['0', '-1', '2.5', 'many'])
def test_a_number_of_rounds_that_is_none_is_refused(value, capsys):
    with pytest.raises(SystemExit):
        tool.main([f'--rounds={value}'])
    assert 'expected a positive integer' in capsys.readouterr().err


def _pairs(one: torch.nn.Module, other: torch.nn.Module) -> zip:
    return zip(one.modules(), other.modules(), strict=True)
