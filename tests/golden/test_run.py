"""``tests/golden/run.py`` agrees with plain formulas and notices any number that is off."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.golden.run import ROOT, TOLERANCE, Golden, compare, main
from tests.models.connectors.textbook import Size, random_features, random_weights, review
from tests.models.losses.textbook import hcl

FIXTURES = ROOT.parent / 'shared' / 'fixtures'

# Sizes of the student's and of the teacher's features, shallow to deep.
CHAINS = {
    'two stages': ([(8, 8), (4, 4)], [(8, 8), (4, 4)]),
    'student and teacher differ': ([(5, 7), (3, 4), (1, 1)], [(7, 5), (3, 4), (2, 1)]),
    'square with pooled': ([(16, 16), (8, 8), (4, 4), (1, 1)],) * 2,
    'pyramid': ([(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)],) * 2,
}


def make_chain(student_sizes: list[Size], teacher_sizes: list[Size]) -> dict[str, np.ndarray]:
    """Compute a chain from the equations, with other channels at each stage."""
    stages = len(student_sizes)
    channels = {
        'in_channels': [2 + i for i in range(stages)],
        'out_channels': [3 + i % 2 for i in range(stages)],
    }
    weights = random_weights(**channels, mid=3)
    leaves = {k: w.requires_grad_() for k, w in weights.items() if 'running' not in k}
    # Over two values only, BN's output hardly depends on its input: batch 3, not 2.
    student = random_features(channels['in_channels'], student_sizes, seed=1, batch=3)
    teacher = random_features(channels['out_channels'], teacher_sizes, seed=2, batch=3)
    leaves |= {f'student{i}': x.requires_grad_() for i, x in enumerate(student)}
    outputs = review(student, teacher_sizes, leaves)
    loss = hcl(outputs, teacher)
    loss.backward()
    tensors = leaves | {'loss': loss} | {f'grad.{k}': leaf.grad for k, leaf in leaves.items()}
    tensors |= {f'teacher{i}': x for i, x in enumerate(teacher)}
    tensors |= {f'output{i}': x for i, x in enumerate(outputs)}
    settings = {'n_stages': stages, 'mid_channels': 3} | channels
    arrays = {k: x.detach().numpy() for k, x in tensors.items()}
    return arrays | {k: np.array(v) for k, v in settings.items()}


@pytest.fixture
def chain() -> dict[str, np.ndarray]:
    return make_chain(*CHAINS['student and teacher differ'])


@pytest.fixture
def run(tmp_path, capsys):
    """Save a chain and return the command's status, what it printed, and its errors."""

    def run_on(arrays: dict[str, np.ndarray]) -> tuple[int, list[str], str]:
        np.savez(tmp_path / 'chain.npz', **arrays)
        status = main(['review_chain', str(tmp_path / 'chain.npz')])
        printed = capsys.readouterr()
        return status, printed.out.splitlines(), printed.err

    return run_on


@pytest.mark.parametrize('sizes', CHAINS.values(), ids=CHAINS)
def test_every_result_of_a_chain_agrees(sizes):
    arrays = make_chain(*sizes)
    errors, faults = compare('review_chain', Golden(arrays))
    assert faults == []
    assert errors.keys() == {k for k in arrays if k.startswith(('loss', 'output', 'grad.'))}
    assert max(errors.values()) <= TOLERANCE


@pytest.mark.parametrize('name', ['review_chain_cifar', 'review_chain_fpn'])
def test_numbers_of_the_authors_code_agree(name):
    path = FIXTURES / f'{name}.npz'
    if not path.is_file():
        pytest.skip(f'there is no {path}')
    assert main(['review_chain', str(path)]) == 0


def test_a_number_that_is_off_is_the_last_line(run, chain):
    status, lines, _ = run(chain)
    assert status == 0
    results = [key for key in chain if key.startswith(('loss', 'output', 'grad.'))]
    assert sorted(line.split()[0] for line in lines) == sorted(results)
    for key in results:
        wrong = chain[key].copy()
        wrong.flat[np.abs(wrong).argmax()] *= 1.001
        status, lines, _ = run(chain | {key: wrong})
        assert status != 0
        assert lines[-1].startswith(f'{key} ')


@pytest.mark.parametrize('key', ['stage1.conv2.weight', 'student2', 'teacher0'])
def test_another_input_gives_other_results(run, chain, key):
    assert run(chain | {key: chain[key] * 1.001})[0] != 0


@pytest.mark.parametrize('wrong', [np.full((3, 4, 3, 4), np.nan), np.zeros((3, 4))])
def test_what_cannot_be_compared_is_off(run, chain, wrong):
    status, lines, _ = run(chain | {'output1': wrong})
    assert status != 0
    assert lines[-1].startswith('output1 ')


@pytest.mark.parametrize(
    'key', ['n_stages', 'stage0.att.bias', 'teacher1', 'output0', 'grad.student2']
)
def test_a_missing_key_is_named(run, chain, key):
    del chain[key]
    status, _, error = run(chain)
    assert status != 0
    assert key in error


def test_a_key_that_nothing_was_compared_with_is_named(run, chain):
    status, _, error = run(chain | {'grad.stage9.att.bias': chain['loss']})
    assert status != 0
    assert 'grad.stage9.att.bias' in error


def test_an_unknown_method_names_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['review', 'chain.npz'])
    assert stop.value.code != 0
    assert 'review_chain' in capsys.readouterr().err


def test_command_line_of_a_plain_checkout(tmp_path, monkeypatch, capsys, chain):
    np.savez(tmp_path / 'chain.npz', **(chain | {'loss': chain['loss'] * 1.001}))
    script = ROOT / 'tests/golden/run.py'
    elsewhere = [path for path in sys.path if path not in {'', str(ROOT)}]
    monkeypatch.setattr(sys, 'path', [str(script.parent), *elsewhere])
    monkeypatch.setattr(sys, 'argv', ['run.py', 'review_chain', str(tmp_path / 'chain.npz')])
    for name in [name for name in sys.modules if name.split('.')[0] == 'tests']:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name='__main__')
    assert stop.value.code == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith('loss ')
    assert Path(sys.path[0]) == ROOT
