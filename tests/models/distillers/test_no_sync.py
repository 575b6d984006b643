"""A training step never makes a device wait for Python: no value of a tensor is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import reviewkd_mm
from reviewkd_mm.models.distillers import Distiller
from tests.integration.detection import CAFFE, raw_batch, retinanet
from tests.models.distillers.helpers import batch, build_distiller, logits, review, total

PACKAGE = str(Path(reviewkd_mm.__file__).parent)
TORCH = str(Path(torch.__file__).parent)

# What copies values to the CPU, or makes a tensor whose size depends on them.
METHODS = {'item', 'tolist', 'numpy', 'cpu', 'nonzero', 'masked_select', 'unique', '__array__'}
OPERATIONS = {'aten::_local_scalar_dense', 'aten::is_nonzero', 'aten::nonzero', 'aten::equal'}


def caller() -> str | None:
    """Return the line of ours that asked, if torch itself did not and nobody else did."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file != __file__ and not file.startswith((TORCH, '<')):
            ours = file.startswith(PACKAGE)
            return f'{Path(file).name}:{frame.f_lineno}' if ours else None
        frame = frame.f_back
    return None


class Waits(TorchDispatchMode):
    """Note the lines of ours that ask for a value, by operation."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        line = caller() if func.name().partition('.')[0] in OPERATIONS else None
        if line:
            self.found.append(line)
        return func(*args, **(kwargs or {}))


class Asks(TorchFunctionMode):
    """Note the lines of ours that ask for a value, by method: some are no operation."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        line = caller() if getattr(func, '__name__', '') in METHODS else None
        if line:
            self.found.append(line)
        return func(*args, **(kwargs or {}))


def waits(work: Callable[[], object]) -> list[str]:
    found: list[str] = []
    with Asks(found), Waits(found):
        work()
    return found


def classification_step(distiller: Distiller) -> None:
    total(distiller.loss(*batch())).backward()


def detection_step(distiller: Distiller) -> None:
    data = distiller.data_preprocessor(raw_batch(), training=True)
    total(distiller(**data, mode='loss')).backward()


OPTIONS = [{}, dict(dtype='bf16'), dict(train_bn=True)]


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_a_step_of_a_classifier(options):
    distiller = build_distiller(
        transfers=dict(review=review(), kd=logits()), teacher_options=options
    )

    found = [waits(lambda: classification_step(distiller)) for _ in range(2)]

    assert found == [[], []]


@pytest.mark.parametrize('options', [*OPTIONS[:2], dict(input_size=(96, 64))], ids=str)
def test_a_step_of_a_detector_whose_teacher_sees_other_pixels(options):
    pixels = dict(type='DetDataPreprocessor', pad_size_divisor=32, **CAFFE)
    distiller = build_distiller(
        student=retinanet(),
        teacher=retinanet(width=6, channels=12, data_preprocessor=pixels),
        transfers=dict(review=review(student='neck', teacher='neck')),
        teacher_options=options,
    )

    found = [waits(lambda: detection_step(distiller)) for _ in range(2)]

    assert found == [[], []]


@pytest.mark.parametrize('autocast', [torch.bfloat16, torch.float16])
def test_a_step_in_mixed_precision(autocast):
    distiller = build_distiller(transfers=dict(review=review(), kd=logits()))

    def work() -> None:
        with torch.autocast('cpu', dtype=autocast):
            losses = distiller.loss(*batch())
        total(losses).backward()

    assert waits(work) == []


@pytest.mark.parametrize(
    'ask',
    [
        'x.item()',
        'x.tolist()',
        'bool(x)',
        'float(x)',
        'int(x)',
        '1 if x > 0 else 2',
        '[1, 2][x.long()]',
        'x.cpu()',
        'x.numpy()',
        'torch.equal(x, x)',
        'x[x > 2]',
        'torch.nonzero(x.view(1))',
    ],
)
def test_what_makes_a_device_wait_would_be_noticed(ask):
    names = dict(x=torch.ones(()), torch=torch)

    for file, noticed in ((f'{PACKAGE}/made_up.py', True), ('/elsewhere/made_up.py', False)):
        code = compile(ask, file, 'eval')
        assert bool(waits(lambda code=code: eval(code, names))) == noticed


def test_arithmetic_makes_no_device_wait():
    code = compile('(x + 1).square().sum().sqrt()', f'{PACKAGE}/made_up.py', 'eval')

    assert waits(lambda: eval(code, dict(x=torch.ones(2)))) == []
