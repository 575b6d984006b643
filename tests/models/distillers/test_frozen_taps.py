"""A student that is frozen at its taps is refused, or named where it is frozen at some."""

from __future__ import annotations

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from reviewkd_mm.models.distillers.frozen_taps import check_not_frozen
from reviewkd_mm.models.distillers.probe import forward_tensor, probe
from reviewkd_mm.models.recorders import Recorder
from tests.models.distillers.helpers import (
    STAGES,
    assert_same_state,
    batch,
    build_distiller,
    classifier,
    review,
    state_of,
    total,
)

KEY = 'transfers.review.student'
LAYERS = STAGES[:3]


class Chain(BaseModel):
    """Three stages, all of which are returned; some are frozen, at once or by train()."""

    def __init__(self, frozen: tuple[str, ...] = (), late: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.frozen = frozen
        if not late:
            self.freeze()

    def freeze(self) -> None:
        for name in self.frozen:
            self.get_submodule(name).requires_grad_(False)

    def train(self, mode: bool = True) -> Chain:
        super().train(mode)
        if mode:
            self.freeze()
        return self

    def forward(self, inputs, data_samples=None, mode='tensor') -> tuple[Tensor, Tensor, Tensor]:
        a = self.a(inputs)
        b = self.b(a)
        return a, b, self.pool(self.c(b))


@pytest.fixture
def said(monkeypatch) -> list[str]:
    texts: list[str] = []
    logging = 'reviewkd_mm.models.distillers.frozen_taps.print_log'
    monkeypatch.setattr(logging, lambda text, *args: texts.append(text))
    return texts


def check(model: nn.Module, *taps: str | dict) -> None:
    recorders = {KEY: Recorder(list(taps))}
    check_not_frozen(model, recorders, probe(model, recorders))


def test_a_student_that_is_frozen_at_every_tap_is_refused():
    student = classifier()
    student['backbone']['frozen_stages'] = 3
    taps = dict(student=LAYERS, teacher=LAYERS)

    with pytest.raises(ValueError, match=rf"^{KEY}: .*frozen up to 'backbone\.layer1', .*layer3'"):
        build_distiller(student=student, transfers=dict(review=review(**taps)))


@pytest.mark.parametrize('late', [False, True])
@pytest.mark.parametrize(
    ('frozen', 'tap'), [('a', 'a'), ('ab', 'b'), ('abc', 'pool'), ('a', dict(source='b'))]
)
def test_no_gradient_reaches_a_parameter_that_trains(frozen, tap, late):
    tap = dict(type='ModuleInputs', **tap) if isinstance(tap, dict) else tap

    with pytest.raises(ValueError, match='nothing in it learns'):
        check(Chain(tuple(frozen), late), tap)


@pytest.mark.parametrize(
    ('frozen', 'taps'),
    [('', 'abc'), ('a', 'bc'), ('b', 'abc'), ('bc', 'bc'), ('c', ['pool']), ('bc', ['pool'])],
)
def test_what_lies_above_a_stage_that_trains_passes(frozen, taps, said):
    check(Chain(tuple(frozen)), *taps)

    assert not said


@pytest.mark.parametrize('taps', [['whole.a', 'whole.b', 'whole.c'], ['whole']])
def test_some_frozen_taps_are_a_warning(taps, said):
    class Around(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.whole = Chain(('a', 'b'))

        def forward(self, inputs, data_samples=None, mode='tensor') -> tuple[Tensor, ...]:
            return self.whole(inputs)

    check(Around(), *taps)

    names = "'whole.a', 'whole.b'" if len(taps) > 1 else "'whole[0]', 'whole[1]'"
    assert said == [
        f'{KEY}: the student is frozen up to {names}: nothing in it learns from the teacher there'
    ]


def test_the_zoos_frozen_stages_below_all_taps_pass(said):
    student = classifier()
    student['backbone']['frozen_stages'] = 1

    build_distiller(
        student=student, transfers=dict(review=review(student=STAGES[1:], teacher=STAGES[1:]))
    )

    assert not said


def test_the_student_and_its_recorders_are_left_as_they_were():
    model, recorder = Chain(('a',)), Recorder(['a', 'b'])
    model.c.eval()
    modes, state = {m: m.training for m in model.modules()}, state_of(model)
    with recorder.recording(model):
        model(torch.rand(1, 3, 4, 4))
    features = recorder.features()

    check_not_frozen(model, {KEY: recorder}, forward_tensor)

    assert {m: m.training for m in model.modules()} == modes
    assert_same_state(state_of(model), state)
    assert all(map(torch.equal, recorder.features(), features))
    assert len(model.a._forward_hooks) == 1


def test_a_student_that_no_gradient_passes_in_eval_mode_is_left_to_the_training():
    class Picky(Chain):
        def forward(self, inputs, data_samples=None, mode='tensor') -> tuple[Tensor, ...]:
            assert not torch.is_grad_enabled()
            return super().forward(inputs)

    check(Picky(('a',)), 'a')


def test_what_a_model_detaches_is_left_to_the_training(said):
    class Detaching(Chain):
        def forward(self, inputs, data_samples=None, mode='tensor') -> Tensor:
            return self.c(self.pool(self.a(inputs).detach()))

    check(Detaching(('b',)), 'pool')

    assert not said


def test_a_frozen_part_that_runs_without_a_graph_is_frozen():
    class WithoutGraph(Chain):
        @torch.no_grad()
        def below(self, inputs: Tensor) -> Tensor:
            return self.a(inputs)

        def forward(self, inputs, data_samples=None, mode='tensor') -> Tensor:
            return self.b(self.below(inputs))

    with pytest.raises(ValueError, match="frozen up to 'a'"):
        check(WithoutGraph(('a',)), 'a')


def test_a_tap_of_several_stages_of_which_one_is_frozen_trains(said):
    student = classifier()
    student['backbone'].update(frozen_stages=1, out_indices=(0, 1, 2))
    taps = dict(student='backbone', teacher=LAYERS)
    distiller = build_distiller(student=student, transfers=dict(review=review(**taps))).train()

    total(distiller.loss(*batch())).backward()

    assert len(said) == 1
    assert "'backbone[0]'" in said[0]
    assert distiller.student.backbone.layer1[0].conv1.weight.grad is None
    assert distiller.student.backbone.layer2[0].conv1.weight.grad is not None


def test_the_input_of_a_stage_that_trains_may_be_of_a_frozen_one(said):
    student = classifier()
    student['backbone'].update(frozen_stages=1)
    taps = [dict(type='ModuleInputs', source='backbone.layer2'), *LAYERS[1:]]
    transfer = review(student=taps, teacher=LAYERS)
    distiller = build_distiller(student=student, transfers=dict(review=transfer)).train()

    total(distiller.loss(*batch())).backward()

    assert len(said) == 1
    assert "'backbone.layer2 (input)'" in said[0]
    assert all(p.grad is not None for p in distiller.transfers.parameters())
