"""The side stream: who waits for whom, and nothing at all on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from reviewkd_mm.models.distillers.side_stream import SideStream
from tests.models.distillers.helpers import batch, build_distiller, logits, review, total


class FakeStream:
    """A stream that notes what it is told."""

    def __init__(self, log: list, name: str, device: str) -> None:
        self.log, self.name, self.device = log, name, device

    def wait_stream(self, other: FakeStream) -> None:
        self.log.append(f'{self.name} waits for {other.name}')


class FakeTensor:
    """A tensor on a device with streams."""

    is_cuda = True

    def __init__(self, log: list, name: str, device: str = 'cuda:0') -> None:
        self.log, self.name, self.device = log, name, device

    def record_stream(self, stream: FakeStream) -> None:
        self.log.append(f'{self.name} is kept for {stream.name}')


@pytest.fixture
def log(monkeypatch) -> list[str]:
    """Put a torch.cuda in place that notes what happens."""
    log: list[str] = []
    made: list[str] = []

    def new_stream(device: str) -> FakeStream:
        made.append(device)
        log.append(f'new stream on {device}')
        return FakeStream(log, f'side {len(made)}', device)

    @contextmanager
    def use(stream: FakeStream) -> Iterator[None]:
        log.append(f'enter {stream.name}')
        try:
            yield
        finally:
            log.append(f'leave {stream.name}')

    monkeypatch.setattr(torch.cuda, 'Stream', new_stream)
    monkeypatch.setattr(torch.cuda, 'stream', use)
    monkeypatch.setattr(
        torch.cuda, 'current_stream', lambda device: FakeStream(log, f'current {device}', device)
    )
    return log


def test_each_waits_for_the_other_and_memory_is_kept_for_its_reader(log):
    side = SideStream()

    with side.beside(FakeTensor(log, 'images')):
        log.append('teacher')
    log.append('student')
    side.join([FakeTensor(log, 'shallow'), FakeTensor(log, 'deep')])

    assert log == [
        'new stream on cuda:0',
        'side 1 waits for current cuda:0',
        'enter side 1',
        'teacher',
        'leave side 1',
        'images is kept for side 1',
        'student',
        'current cuda:0 waits for side 1',
        'shallow is kept for current cuda:0',
        'deep is kept for current cuda:0',
    ]


def test_a_second_step_takes_the_same_stream(log):
    side = SideStream()

    for _ in range(2):
        with side.beside(FakeTensor(log, 'images')):
            pass
        side.join([])

    assert log.count('new stream on cuda:0') == 1
    assert log.count('side 1 waits for current cuda:0') == 2
    assert log.count('current cuda:0 waits for side 1') == 2


def test_another_device_gets_a_stream_of_its_own(log):
    side = SideStream()

    for device in ('cuda:0', 'cuda:1'):
        with side.beside(FakeTensor(log, 'images', device)):
            pass
        side.join([FakeTensor(log, 'features', device)])

    assert 'new stream on cuda:1' in log
    assert log[-2:] == [
        'current cuda:1 waits for side 2',
        'features is kept for current cuda:1',
    ]


def test_an_error_of_the_block_is_raised_after_the_stream_is_left(log):
    side = SideStream()

    with pytest.raises(ZeroDivisionError), side.beside(FakeTensor(log, 'images')):
        raise ZeroDivisionError

    assert log[-1] == 'leave side 1'


def test_features_may_be_any_iterable(log):
    side = SideStream()
    with side.beside(FakeTensor(log, 'images')):
        pass

    side.join(FakeTensor(log, name) for name in 'ab')

    assert log[-2:] == ['a is kept for current cuda:0', 'b is kept for current cuda:0']


def test_nothing_happens_on_a_cpu(log):
    side = SideStream()

    with side.beside(torch.zeros(1)):
        result = torch.ones(1)
    side.join([result])

    assert log == []


def test_losses_on_a_cpu_are_those_without_a_stream(log):
    gradients = []
    for stream in (False, True):
        torch.manual_seed(0)
        transfers = dict(review=review(), kd=logits())
        distiller = build_distiller(transfers=transfers, teacher_stream=stream)
        losses = distiller.loss(*batch())
        total(losses).backward()
        gradients.append([*losses.values(), *(p.grad for p in distiller.parameters())])

    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    assert log == []


def test_the_teacher_runs_before_the_student_and_is_waited_for_after_it(monkeypatch):
    events: list[str] = []

    @contextmanager
    def beside(self: SideStream, inputs: torch.Tensor) -> Iterator[None]:
        events.append('beside')
        yield
        events.append('queued')

    def join(self: SideStream, results: Iterator[torch.Tensor]) -> None:
        events.append(f'join of {len(list(results))} features')

    monkeypatch.setattr(SideStream, 'beside', beside)
    monkeypatch.setattr(SideStream, 'join', join)
    transfers = dict(review=review(), kd=logits())
    distiller = build_distiller(teacher_stream=True, teacher_fold_bn=False, transfers=transfers)
    for name in ('teacher', 'student'):
        backbone = getattr(distiller, name).backbone
        backbone.register_forward_hook(lambda *args, name=name: events.append(name))
    distiller.transfers.review.loss.register_forward_hook(lambda *args: events.append('compare'))

    distiller.loss(*batch())

    assert events == ['beside', 'teacher', 'queued', 'student', 'join of 5 features', 'compare']


def test_a_distiller_with_a_stream_can_be_copied():
    distiller = build_distiller(teacher_stream=True)

    copied = copy.deepcopy(distiller)

    expected, actual = (d.loss(*batch())['loss_review'] for d in (distiller, copied))
    torch.testing.assert_close(actual, expected)
