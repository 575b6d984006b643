"""Tests of the progress bar: where it is drawn, what it says, and what it leaves behind."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

from reviewkd_mm.engine.hooks.progress_bar_hook import ProgressBarHook

HIDE_CURSOR, SHOW_CURSOR = '\x1b[?25l', '\x1b[?25h'
CONTROL = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]|\r')


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """Return what was written, without colours and cursor movements."""
        return CONTROL.sub('', self.getvalue())


class Net(BaseModel):
    """A model whose loss is its only weight."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(3.25))
        self.fail_at = fail_at
        self.calls = 0

    def forward(self, inputs: torch.Tensor, data_samples=None, mode: str = 'tensor'):
        self.calls += 1
        if self.calls == self.fail_at:
            raise ZeroDivisionError('in training')
        return {'loss': self.weight + 0 * inputs.sum()} if mode == 'loss' else [inputs]


class Spy(ProgressBarHook):
    """The hook, which also notes the iteration that the bar starts at."""

    started_at = None

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if self._progress:
            self.started_at = self._progress.tasks[0].completed


@contextmanager
def at_a_terminal(stdout: io.StringIO | None = None) -> Iterator[Terminal]:
    """Make standard error a terminal, and standard output the same one unless it is given."""
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TERM', 'xterm')
        patch.setenv('COLUMNS', '200')
        patch.setattr(sys, 'stdout', stdout or terminal)
        patch.setattr(sys, 'stderr', terminal)
        yield terminal


def make_loader() -> dict:
    return dict(
        dataset=[torch.ones(1)] * 4,
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=1,
        collate_fn=lambda batch: dict(inputs=torch.stack(batch)),
    )


def make_runner(work_dir: Path, hook: ProgressBarHook, name: str, **kwargs) -> Runner:
    settings = dict(
        model=Net(),
        work_dir=str(work_dir),
        train_dataloader=make_loader(),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=2), checkpoint=None),
        custom_hooks=[hook],
        experiment_name=name,
    )
    return Runner(**{**settings, **kwargs})


@pytest.mark.filterwarnings('error:Converting a tensor')
def test_epoch_iteration_eta_and_loss_are_shown(tmp_path):
    with at_a_terminal() as terminal:
        make_runner(tmp_path, ProgressBarHook(interval=0), 'bar_epochs').train()

    assert re.search(r'epoch 1/2 .*iter +1/8 eta .*loss 3\.25', terminal.text())
    assert re.search(r'epoch 2/2 .*iter +8/8 eta .*loss 3\.25', terminal.text())


def test_log_lines_stay_whole_and_the_terminal_is_given_back(tmp_path):
    with at_a_terminal() as terminal:
        runner = make_runner(tmp_path, ProgressBarHook(interval=0), 'bar_lines')
        runner.train()
        assert sys.stdout is terminal
        assert sys.stderr is terminal
        runner.logger.info('after the training')

    lines = [line for line in terminal.text().splitlines() if 'Epoch(train)' in line]
    assert len(lines) == 4
    assert all(
        re.fullmatch(r'.*Epoch\(train\) .* eta: .* loss: 3\.2500 *', line) for line in lines
    )
    assert terminal.getvalue().count(HIDE_CURSOR) == terminal.getvalue().count(SHOW_CURSOR) == 1
    assert terminal.text().endswith('after the training\n')


def test_iterations_without_epochs(tmp_path):
    settings = dict(train_cfg=dict(by_epoch=False, max_iters=6))
    with at_a_terminal() as terminal:
        make_runner(tmp_path, ProgressBarHook(interval=0), 'bar_iters', **settings).train()

    assert re.search(r'train .*iter +6/6', terminal.text())
    assert 'epoch 1' not in terminal.text()


def test_validation_is_shown(tmp_path):
    settings = dict(
        val_dataloader=make_loader(),
        val_cfg=dict(),
        val_evaluator=dict(type='DumpResults', out_file_path=str(tmp_path / 'out.pkl')),
    )
    with at_a_terminal() as terminal:
        make_runner(tmp_path, ProgressBarHook(interval=0), 'bar_val', **settings).train()

    assert 'validating 4/4' in terminal.text()


def test_a_resumed_training_starts_where_it_was(tmp_path):
    hook = Spy()
    settings = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)))
    one_epoch = dict(train_cfg=dict(by_epoch=True, max_epochs=1))
    with at_a_terminal():
        make_runner(tmp_path, Spy(), 'bar_first', **settings, **one_epoch).train()
        make_runner(tmp_path, hook, 'bar_resumed', resume=True, **settings).train()

    assert hook.started_at == 4


def test_nothing_is_drawn_without_a_terminal(tmp_path):
    hook = Spy()
    log = io.StringIO()
    with at_a_terminal(log) as terminal:
        terminal.isatty = lambda: False
        make_runner(tmp_path, hook, 'bar_none').train()

    assert hook.started_at is None
    assert terminal.getvalue() == ''
    assert 'Epoch(train)' in log.getvalue()


def test_a_redirected_log_file_gets_no_bar(tmp_path):
    log = io.StringIO()
    with at_a_terminal(log) as terminal:
        make_runner(tmp_path, ProgressBarHook(interval=0), 'bar_file').train()

    assert 'Epoch(train)' in log.getvalue()
    assert '8/8' not in log.getvalue()
    assert '8/8' in terminal.text()
    assert 'Epoch(train)' not in terminal.text()


def test_only_the_first_process_draws(tmp_path):
    hook = Spy()
    with at_a_terminal():
        runner = make_runner(tmp_path, hook, 'bar_rank')
        runner._rank = 1
        runner.train()

    assert hook.started_at is None


def test_the_terminal_is_given_back_after_a_crash(tmp_path, monkeypatch):
    at_exit = []
    monkeypatch.setattr('atexit.register', at_exit.append)
    with at_a_terminal() as terminal:
        runner = make_runner(tmp_path, Spy(), 'bar_crash', model=Net(fail_at=3))
        with pytest.raises(ZeroDivisionError):
            runner.train()
        for function in at_exit:
            function()
        assert sys.stdout is terminal

    assert terminal.getvalue().count(SHOW_CURSOR) == 1
