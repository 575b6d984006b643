"""What the rows of the benchmark run, and that they differ by what they name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from reviewkd_mm.models.connectors import ABF
from reviewkd_mm.models.losses import HCLLoss
from tests.models.distillers.helpers import assert_same_state, state_of
from tests.tools.step_benchmark import load, write_classifiers, write_detectors, write_logits

runs, rows = load('step_runs'), load('step_rows')
Job = load('step_pairs').Job
BY_NAME = {row.name: row for row in rows.ROWS}


@dataclass
class Call:
    """A convolution, or another module, that ran."""

    module: nn.Module
    output: Tensor
    grad: bool


def spy(run: Callable[[], object]) -> list[Call]:
    """Run something and return the modules that ran in it."""
    calls = []
    hook = register_module_forward_hook(
        lambda module, _, output: calls.append(Call(module, output, torch.is_grad_enabled()))
    )
    try:
        run()
    finally:
        hook.remove()
    return calls


def convs(calls: list[Call], teacher: bool) -> list[Call]:
    """Choose the convolutions of the teacher, which run without gradients, or the others."""
    return [c for c in calls if isinstance(c.module, nn.Conv2d) and c.grad is not teacher]


def is_channels_last(calls: list[Call]) -> bool:
    maps = [c.output for c in calls if min(c.output.shape[1:]) > 1]
    assert maps
    return all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp('pair')


@pytest.fixture(scope='module')
def classifiers(folder) -> runs.Runs:
    return runs.Runs(Job('classifiers', write_classifiers(folder), 32, 4))


@pytest.fixture(scope='module')
def detectors(folder) -> runs.Runs:
    return runs.Runs(Job('detectors', write_detectors(folder), 64, 2))


@pytest.fixture
def compiled(monkeypatch) -> list:
    """Let torch.compile return what it is given, and list that."""
    functions = []

    def compile_nothing(function):
        functions.append(function)
        return functools.wraps(function)(lambda *args: function(*args))

    monkeypatch.setattr(torch, 'compile', compile_nothing)
    return functions


@pytest.mark.parametrize('pair', ['classifiers', 'detectors'])
def test_the_distilled_step_is_the_students_and_one_more_loss(pair, request):
    made = request.getfixturevalue(pair)
    student, distilled = made.build(BY_NAME[rows.STUDENT]), made.build(BY_NAME[rows.STEP_OFF])
    distiller = made.distiller(rows.ALL_OFF, False)
    before, teacher = state_of(made.student), state_of(distiller.teacher)
    assert_same_state(state_of(distiller.student), before)

    alone, together = student(), distilled()

    names = {name for name in alone if name != 'loss'}
    assert set(together) - {'loss', 'loss_review'} == names - {'loss'} | (
        {'loss_cls'} if pair == 'classifiers' else set()
    )
    for name in names & set(together):
        torch.testing.assert_close(together[name], alone[name])
    # A learning rate of 0: the next round is the same step.
    for name, parameter in made.student.named_parameters():
        assert torch.equal(parameter, before[name])
    assert_same_state(state_of(distiller.teacher), teacher)


def test_a_detectors_frozen_stages_stay_frozen(detectors):
    frozen = {n for n, p in detectors.student.named_parameters() if not p.requires_grad}
    assert any(name.startswith('backbone.layer1.') for name in frozen)
    student = detectors.distiller(rows.Options(), False).student
    assert {n for n, p in student.named_parameters() if not p.requires_grad} == frozen
    pairs = zip(student.modules(), detectors.student.modules(), strict=True)
    assert all(one.training == other.training for one, other in pairs)


def test_the_parts_are_the_parts(detectors):
    made = {name: spy(detectors.build(BY_NAME[name])) for name in BY_NAME if ':' not in name
            if BY_NAME[name].kind is not rows.Kind.SUM and not BY_NAME[name].compiled}  # fmt: skip
    kinds = {name: {type(call.module) for call in calls} for name, calls in made.items()}

    teacher = detectors.distiller(rows.ALL_OFF, False).teacher
    features = made[rows.TEACHER]
    assert features
    assert not any(call.grad for call in made[rows.TEACHER] + made[rows.FULL_LOSS])
    assert not kinds[rows.TEACHER] & {type(teacher.bbox_head)}
    neck = {type(teacher.neck), type(teacher.backbone)}
    assert neck <= kinds[rows.TEACHER]
    # A head is called by its loss(), which hooks do not see; its convolutions are.
    head = {id(m) for m in teacher.bbox_head.modules() if isinstance(m, nn.Conv2d)}
    assert {id(c.module) for c in made[rows.FULL_LOSS]} >= head
    assert not {id(c.module) for c in made[rows.TEACHER]} & head
    assert {ABF, HCLLoss} <= kinds['ABF + HCL']
    assert not {ABF, HCLLoss} & kinds[rows.TEXTBOOK]
    assert type(detectors.student.backbone) not in kinds['ABF + HCL'] | kinds[rows.TEXTBOOK]


def test_own_and_textbook_form_have_the_same_loss(classifiers):
    own, textbook = (classifiers.build(BY_NAME[name])() for name in ('ABF + HCL', rows.TEXTBOOK))
    torch.testing.assert_close(own, textbook)
    half = classifiers.build(BY_NAME['ABF + HCL, bf16'])()
    torch.testing.assert_close(half, textbook, rtol=0.05, atol=0)
    assert not torch.equal(half, own)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        (rows.STUDENT, False),
        (rows.TEACHER, False),
        (rows.TEXTBOOK, False),
        ('ABF + HCL', True),
        ('ABF + HCL, bf16', True),
        (rows.STEP_OFF, False),
        (rows.STEP_DEFAULTS, True),
        ('step: channels_last off', False),
        ('step: teacher_fold_bn off', True),
    ],
)
def test_memory_layout(classifiers, name, expected):
    calls = spy(classifiers.build(BY_NAME[name]))
    for teacher in (True, False):
        run = convs(calls, teacher)
        assert not run or is_channels_last(run) is expected


@pytest.mark.parametrize('channels_last', [True, False])
@pytest.mark.parametrize('amp', [True, False])
def test_abf_and_hcl_alone_get_the_features_of_a_step(classifiers, channels_last, amp):
    sides = classifiers._read_features(channels_last, amp)['review']
    for given in sides:
        (shallow, *_) = given.features()
        assert shallow.is_contiguous(memory_format=torch.channels_last) is channels_last
        assert shallow.dtype == (torch.bfloat16 if amp else torch.float32)


@pytest.mark.parametrize(
    ('name', 'folded'),
    [
        (rows.TEACHER, False),
        (rows.STEP_OFF, False),
        (rows.STEP_DEFAULTS, True),
        ('step: channels_last off', True),
        ('step: teacher_fold_bn off', False),
        ('amp: defaults', True),
    ],
)
def test_folding(classifiers, name, folded):
    calls = spy(classifiers.build(BY_NAME[name]))
    norms = [c for c in calls if isinstance(c.module, nn.BatchNorm2d) and not c.grad]
    assert bool(norms) is not folded


@pytest.mark.parametrize(
    ('name', 'student', 'teacher'),
    [
        (rows.STUDENT, torch.float32, None),
        ('amp: student step', torch.bfloat16, None),
        (rows.TEACHER, None, torch.float32),
        (rows.STEP_DEFAULTS, torch.float32, torch.float32),
        ('step: teacher in bf16', torch.float32, torch.bfloat16),
        ('amp: defaults', torch.bfloat16, torch.bfloat16),
        ('ABF + HCL', torch.float32, None),
        ('ABF + HCL, bf16', torch.bfloat16, None),
    ],
)
def test_precision(classifiers, name, student, teacher):
    calls = spy(classifiers.build(BY_NAME[name]))
    found = [{c.output.dtype for c in convs(calls, of)} for of in (False, True)]
    assert found == [{dtype} if dtype else set() for dtype in (student, teacher)]


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        (rows.STEP_DEFAULTS, 0),
        ('step: teacher compiled', 1),
        ('step: transfers compiled', 2),
        ('step: both compiled', 3),
        ('ABF + HCL, compiled', 2),
        (rows.AMP_EVERYTHING, 3),
    ],
)
def test_what_is_compiled(tmp_path, compiled, name, count):
    made = runs.Runs(Job('logits', write_logits(tmp_path), 32, 4))
    run = made.build(BY_NAME[name])
    assert len(set(map(id, compiled))) >= bool(count)
    assert len(compiled) == count
    run()
    assert not made.fell_back(BY_NAME[name])


def test_a_row_whose_compilation_failed_says_so(tmp_path, monkeypatch):
    def fail(*args: object) -> None:
        raise RuntimeError('no compiler')

    monkeypatch.setattr(torch, 'compile', lambda function: fail)
    made = runs.Runs(Job('classifiers', write_classifiers(tmp_path), 32, 4))
    names = ('ABF + HCL, compiled', 'step: teacher compiled', rows.STEP_DEFAULTS)
    for name in names:
        made.build(BY_NAME[name])()
    assert [made.fell_back(BY_NAME[name]) for name in names] == [True, True, False]


def test_students_share_their_weights_where_the_layout_is_the_same(classifiers):
    def pointers(model: nn.Module) -> list[int]:
        return [p.data_ptr() for p in model.parameters()]

    off = classifiers.distiller(rows.ALL_OFF, False)
    defaults, unfolded = (
        classifiers.distiller(rows.Options(teacher_fold_bn=fold), False) for fold in (True, False)
    )
    assert pointers(off.student) == pointers(classifiers.student)
    assert pointers(defaults.student) == pointers(unfolded.student)
    assert pointers(defaults.student) != pointers(off.student)
    assert defaults is classifiers.distiller(rows.Options(), False)
    assert defaults is not classifiers.distiller(rows.Options(), True)


def test_detectors_are_told_from_classifiers(classifiers, detectors):
    assert detectors.is_detector
    assert not classifiers.is_detector
