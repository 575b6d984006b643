"""The rows of the benchmark run what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.losses import HCLLoss
from tests.models.distillers.helpers import assert_same_state, state_of
from tests.numbers import assert_close64, distance
from tests.tools.step_benchmark import load, write_classifiers, write_detectors

models, rows = load('step_benchmark.models'), load('step_benchmark.rows')
BY_NAME = {row.name: row for row in rows.ROWS}
EAGER = [row for row in rows.ROWS if row.kind is not rows.Kind.SUM and not row.compiled]
ALONE = [BY_NAME[rows.TEXTBOOK], *(r for r in EAGER if r.kind is rows.Kind.TRANSFERS)]

# Of single precision: more than rounding takes on any processor, less than a mistake would.
HALF_OF_THE_DIGITS = torch.finfo(torch.float32).eps ** 0.5
CLASSIFIER = [(8, (8, 8)), (12, (4, 4)), (16, (2, 2)), (16, (1, 1))]
# Not square, and the teacher's maps are not of the student's sizes.
DETECTOR = [(8, (10, 7)), (8, (5, 4)), (8, (3, 2))]


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp('pairs')


@pytest.fixture(scope='module')
def classifiers(folder) -> models.Runs:
    return models.Runs(rows.Job('classifiers', write_classifiers(folder), 32, 4))


@pytest.fixture(scope='module')
def detectors(folder) -> models.Runs:
    return models.Runs(rows.Job('detectors', write_detectors(folder), 64, 2))


def spy(run: Callable[[], object]) -> list[tuple[nn.Module, Tensor, bool]]:
    """Run something and return each module that ran, its output and whether it may train."""
    calls = []
    hook = register_module_forward_hook(
        lambda module, _, output: calls.append((module, output, torch.is_grad_enabled()))
    )
    try:
        run()
    finally:
        hook.remove()
    return calls


def maps_of(calls: list, trains: bool) -> list[Tensor]:
    """Return what convolutions computed in the teacher, which does not train, or elsewhere."""
    return [o for m, o, grad in calls if isinstance(m, nn.Conv2d) and grad is trains]


def is_channels_last(maps: list[Tensor]) -> bool:
    told = [m for m in maps if min(m.shape[1:]) > 1]
    return all(m.is_contiguous(memory_format=torch.channels_last) for m in told)


@pytest.mark.parametrize('name', rows.PAIRS)
def test_pairs_are_distillers(name):
    assert set(models.load_pair(rows.PAIRS[name].config).model.transfers) == {'review'}


@pytest.mark.parametrize(
    ('student', 'teacher', 'norm', 'levels'),
    [
        (CLASSIFIER, CLASSIFIER, 'BN', (4, 2, 1)),
        (CLASSIFIER, CLASSIFIER, 'BN', (2,)),
        (DETECTOR, [(4, (20, 14)), (8, (5, 4)), (12, (5, 4))], 'GN', (4, 2, 1)),
        (DETECTOR, [(4, (5, 4)), (4, (5, 4)), (8, (3, 2))], 'BN', (4, 2, 1)),
    ],
    ids=['classifier', 'one level', 'larger teacher', 'smaller teacher'],
)
def test_the_textbook_form_computes_what_the_packages_own_does(student, teacher, norm, levels):
    torch.manual_seed(0)
    channels = [[c for c, _ in shapes] for shapes in (student, teacher)]
    norm_cfg = dict(type='GN', num_groups=4) if norm == 'GN' else None
    connector = ReviewConnector(*channels, mid_channels=8, norm_cfg=norm_cfg).double()
    hcl = HCLLoss(loss_weight=3.0, levels=levels)
    features = [torch.randn(3, c, *size).double().requires_grad_() for c, size in student]
    targets = [torch.randn(3, c, *size).double() for c, size in teacher]

    own = hcl(connector(features, [size for _, size in teacher]), targets)
    textbook = models.TextbookReview(connector, hcl)(features, targets)

    leaves = [*features, *connector.parameters()]
    assert_close64(textbook, own)
    assert_close64(torch.autograd.grad(textbook, leaves), torch.autograd.grad(own, leaves))


@pytest.mark.parametrize('pair', ['classifiers', 'detectors'])
def test_the_distilled_step_is_the_students_and_the_losses_of_the_transfers(pair, request):
    runs = request.getfixturevalue(pair)
    distiller = runs.model(BY_NAME[rows.STEP_OFF])
    before, teacher = state_of(runs.student), state_of(distiller.teacher)
    assert_same_state(state_of(distiller.student), before)

    alone = runs.build(BY_NAME[rows.STUDENT])()
    together = runs.build(BY_NAME[rows.STEP_OFF])()

    if pair == 'classifiers':
        alone['loss_cls'] = alone['loss']
    transfers = {f'loss_{name}' for name in distiller.transfers}
    assert set(together) == set(alone) | transfers
    for name in set(alone) - {'loss'}:
        assert distance(together[name], alone[name]) < HALF_OF_THE_DIGITS
    # A learning rate of 0: the next round is the same step.
    for model in (runs.student, distiller.student):
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert_same_state(state_of(distiller.teacher), teacher)


def test_a_detectors_batch_has_masks_and_its_frozen_stages_stay_frozen(detectors):
    assert all('masks' in sample.gt_instances for sample in detectors.batch['data_samples'])
    student = detectors.model(BY_NAME[rows.STEP_DEFAULTS]).student
    frozen = {name for name, p in student.named_parameters() if not p.requires_grad}
    assert any(name.startswith('backbone.layer1.') for name in frozen)
    assert frozen == {n for n, p in detectors.student.named_parameters() if not p.requires_grad}


def test_the_teacher_runs_as_far_as_its_taps_or_to_its_losses(detectors):
    teacher = detectors.model(BY_NAME[rows.TEACHER]).teacher
    features, losses = (spy(detectors.build(BY_NAME[n])) for n in (rows.TEACHER, rows.FULL_LOSS))
    assert not any(grad for _, _, grad in features + losses)
    # A head is called by its loss(), which hooks do not see; its convolutions are.
    head = {id(m) for m in teacher.bbox_head.modules() if isinstance(m, nn.Conv2d)}
    assert not {id(module) for module, _, _ in features} & head
    assert {id(module) for module, _, _ in losses} >= head
    assert any(module is teacher.neck for module, _, _ in features)


@pytest.mark.parametrize('row', ALONE, ids=lambda row: row.name)
def test_the_transfers_alone_lose_what_they_do_in_a_step(classifiers, row):
    step = classifiers.build(replace(row, kind=rows.Kind.STEP))()
    run = classifiers.build(row)

    first = run()
    calls = spy(run)
    assert torch.equal(run(), first)  # Nothing is left behind.

    expected = step['loss_review'] + step['loss_kd']
    off = distance(first, torch.as_tensor(expected))
    assert off < (4 * torch.finfo(torch.bfloat16).eps if row.amp else HALF_OF_THE_DIGITS)
    distiller = classifiers.model(row)
    assert all(p.grad is None for p in distiller.parameters())
    ran = {id(module) for module, _, _ in calls}
    assert not ran & {id(module) for module in distiller.student.modules()}
    textbook = row.kind is rows.Kind.TEXTBOOK
    assert (id(distiller.transfers['review'].connector) in ran) is not textbook


@pytest.mark.parametrize('row', EAGER, ids=lambda row: row.name)
def test_memory_format_and_precision(classifiers, row):
    calls = spy(classifiers.build(row))
    trained, frozen = maps_of(calls, True), maps_of(calls, False)
    assert trained or frozen
    channels_last = row.channels_last and row.kind is not rows.Kind.STUDENT
    assert all(is_channels_last(maps) is channels_last for maps in (trained, frozen) if maps)
    assert {m.dtype for m in trained} <= {torch.bfloat16 if row.amp else torch.float32}
    assert {m.dtype for m in frozen} <= {torch.bfloat16 if row.bf16 else torch.float32}


@pytest.mark.parametrize('name', ['ABF + HCL, compiled', 'step: teacher compiled'])
def test_rows_that_compile(tmp_path, monkeypatch, name):
    graphs = []

    def capture(graph: torch.fx.GraphModule, *args: object, **kwargs: object) -> Callable:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr('torch._inductor.compile_fx.compile_fx', capture)
    torch._dynamo.reset()
    runs = models.Runs(rows.Job('classifiers', write_classifiers(tmp_path), 32, 4))
    row = BY_NAME[name]
    eager = runs.build(replace(row, teacher_compile=False, transfers_compile=False))()
    assert not graphs
    compiled = runs.build(row)()
    assert graphs
    assert distance(compiled, eager) < HALF_OF_THE_DIGITS


def test_settings_of_the_row_replace_those_of_the_config(tmp_path):
    options = dict(dtype='bf16', train_bn=True)
    config = write_classifiers(tmp_path, channels_last=False, teacher_options=options)
    runs = models.Runs(rows.Job('classifiers', config, 32, 4))
    row = BY_NAME[rows.STEP_DEFAULTS]
    maps = maps_of(spy(runs.build(row)), trains=False)
    assert is_channels_last(maps)
    assert {m.dtype for m in maps} == {torch.float32}
    # What is no setting of speed stays: BatchNorm with the statistics of the batch.
    assert any(m.training for m in runs.model(row).teacher.modules())
