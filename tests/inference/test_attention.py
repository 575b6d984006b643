"""Tests of reading features and attention maps by stage."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reviewkd_mm.inference.attention import StageReader, choose_transfer, connect
from reviewkd_mm.models.connectors import ReviewConnector
from tests.integration.detection import retinanet
from tests.models.connectors.textbook import nearest_resize
from tests.models.distillers.helpers import STAGES, batch, build_distiller, logits, review
from tests.numbers import assert_close64, assert_within_rounding

pytestmark = pytest.mark.usefixtures('in_float64')


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def expected(
    connector: nn.Module, features: list[Tensor], sizes: list[tuple[int, int]]
) -> tuple[list[Tensor], list[Tensor | None]]:
    """The review mechanism by its equations, deepest stage first, with its attention maps."""
    residual, outputs, maps = None, [], []
    stages = zip(connector.abfs, features, sizes, strict=True)
    for abf, feature, size in reversed(list(stages)):
        fused, weights = abf.conv1(feature), None
        if residual is not None:
            residual = nearest_resize(residual, fused.shape[-2:])
            both = torch.cat([fused, residual], dim=1)
            weights = torch.sigmoid(abf.att_conv(both))
            fused = weights[:, :1] * fused + weights[:, 1:] * residual
        residual = nearest_resize(fused, size)
        outputs.append(abf.conv2(residual))
        maps.append(weights)
    return outputs[::-1], maps[::-1]


def test_attention_maps_are_those_with_which_the_connector_fuses():
    connector = ReviewConnector([4, 6, 8], [8, 12, 16]).eval()
    features = [noise(2, 4, 12, 18), noise(2, 6, 6, 9, seed=1), noise(2, 8, 3, 4, seed=2)]
    sizes = [(6, 9), (6, 9), (3, 4)]

    outputs, maps = connect(connector, features, sizes)

    wanted_outputs, wanted_maps = expected(connector, features, sizes)
    assert_close64(outputs, wanted_outputs)
    assert_close64(maps[:2], wanted_maps[:2])
    assert maps[2] is None
    for weights in maps[:2]:
        assert 0 <= weights.min() < weights.max() <= 1
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in connector.modules())


def test_a_connector_without_attention_has_no_maps():
    connector = ReviewConnector([4, 8], [8, 8], attention=False).eval()

    outputs, maps = connect(connector, [noise(1, 4, 4, 4), noise(1, 8, 2, 2)], [(4, 4), (2, 2)])

    assert maps == [None, None]
    assert [tuple(output.shape) for output in outputs] == [(1, 8, 4, 4), (1, 8, 2, 2)]


def outputs_at(model: nn.Module, paths: list[str], run) -> list[Tensor]:
    """What modules return in a forward, clones of it."""
    seen = {}
    handles = [
        model.get_submodule(path).register_forward_hook(
            lambda module, args, output, path=path: seen.__setitem__(path, output)
        )
        for path in paths
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    flat = [seen[path] if isinstance(seen[path], tuple) else (seen[path],) for path in paths]
    return [t if t.dim() == 4 else t[..., None, None] for values in flat for t in values]


def mean(feature: Tensor) -> Tensor:
    return feature[0].mean(dim=0)


def assert_rounded(shown: np.ndarray, exact: Tensor) -> None:
    """Check maps that are computed in float64 and shown in float32."""
    assert_within_rounding(shown, exact.float(), exact)


@pytest.fixture(scope='module')
def distiller():
    return build_distiller().eval().double()


def test_stages_of_a_classifier(distiller):
    inputs = batch(1)[0].double()

    stages = StageReader(distiller, 'review').read(inputs)

    student, teacher = distiller.student, distiller.teacher
    of_student = outputs_at(student, STAGES, lambda: student.extract_feat(inputs))
    of_teacher = outputs_at(teacher, STAGES, lambda: teacher.extract_feat(inputs))
    assert [stage.student_tap for stage in stages] == STAGES
    assert [stage.teacher_tap for stage in stages] == [
        *(f'{name}.-1.relu (input)' for name in STAGES[:3]),
        'neck',
    ]
    sizes = [tuple(feature.shape[-2:]) for feature in of_teacher]
    with torch.no_grad():
        connected, maps = expected(distiller.transfers.review.connector, of_student, sizes)
    for index, stage in enumerate(stages):
        assert_rounded(stage.student, mean(of_student[index]))
        assert_rounded(stage.connected, mean(connected[index]))
        if index < 3:
            assert_rounded(stage.attention, maps[index][0])
        assert stage.fused == (index < 3)
        assert stage.before is None
    # The others are read before the ReLU: what is negative there is 0 after it.
    assert_rounded(stages[3].teacher, mean(of_teacher[3]))
    assert stages[0].teacher.min() < 0
    assert stages[3].attention is None


def test_what_the_teacher_shows_is_what_the_loss_compares_with(distiller):
    compared = []
    handle = distiller.transfers.review.loss.register_forward_pre_hook(
        lambda module, args: compared.append(args)
    )
    inputs, samples = batch(1)
    inputs = inputs.double()
    with torch.no_grad():
        distiller.loss(inputs, samples)
    handle.remove()

    stages = StageReader(distiller, 'review').read(inputs, samples)

    ((of_student, of_teacher),) = compared
    for stage, student, teacher in zip(stages, of_student, of_teacher, strict=True):
        assert_rounded(stage.connected, mean(student))
        assert_rounded(stage.teacher, mean(teacher))


def test_a_detectors_levels_are_stages():
    distiller = build_distiller(
        student=retinanet(),
        teacher=retinanet(width=8, channels=16),
        transfers=dict(review=review(student='neck', teacher='neck')),
    )
    distiller = distiller.eval().double()
    inputs = noise(1, 3, 64, 96)

    stages = StageReader(distiller, 'review').read(inputs)

    assert [stage.student_tap for stage in stages] == [f'neck[{level}]' for level in range(5)]
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    student = distiller.student
    levels = outputs_at(student, ['neck'], lambda: student.extract_feat(inputs))
    for stage, level, size in zip(stages, levels, sizes, strict=True):
        assert_rounded(stage.student, mean(level))
        assert stage.student.shape == stage.connected.shape == stage.teacher.shape == size
    assert [stage.attention.shape for stage in stages[:4]] == [(2, *size) for size in sizes[:4]]


def test_another_students_features_beside(distiller):
    inputs = batch(1)[0].double()
    other = copy.deepcopy(distiller.student)
    torch.manual_seed(5)
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.1)

    stages = StageReader(distiller, 'review', before=other).read(inputs)
    alone = StageReader(distiller, 'review').read(inputs)

    of_other = outputs_at(other, STAGES, lambda: other.extract_feat(inputs))
    for stage, plain, feature in zip(stages, alone, of_other, strict=True):
        assert_rounded(stage.before, mean(feature))
        np.testing.assert_array_equal(stage.student, plain.student)
        assert np.abs(stage.before - stage.student).max() > 1e-3


def test_nothing_is_changed_or_kept(distiller):
    inputs = batch(1)[0].double()
    before = copy.deepcopy(distiller.state_dict())

    StageReader(distiller, 'review').read(inputs)

    for name, value in distiller.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not distiller.student_recorders['review'].recorded
    assert not distiller.teacher_recorders['review'].recorded


@pytest.fixture(scope='module')
def transfers() -> nn.ModuleDict:
    return build_distiller(transfers=dict(kd=logits(), review=review(), again=review())).transfers


@pytest.mark.parametrize(
    ('name', 'chosen'), [(None, 'review'), ('review', 'review'), ('again', 'again')]
)
def test_the_first_transfer_that_reviews_is_chosen_or_the_named_one(transfers, name, chosen):
    assert choose_transfer(transfers, name) == chosen


def test_a_transfer_that_is_not_there(transfers):
    with pytest.raises(ValueError, match=r"transfer='reviw': .* did you mean 'review'"):
        choose_transfer(transfers, 'reviw')


def test_a_transfer_without_a_review_connector(transfers):
    message = (
        r"transfer='kd' has no ReviewConnector.*'kd' \(no connector\), "
        r"'review' \(ReviewConnector\), 'again' \(ReviewConnector\)"
    )
    with pytest.raises(ValueError, match=message):
        choose_transfer(transfers, 'kd')


def test_no_transfer_has_a_review_connector(transfers):
    only = nn.ModuleDict(dict(kd=transfers['kd']))
    with pytest.raises(ValueError, match=r"none has a ReviewConnector.*'kd' \(no connector\)"):
        choose_transfer(only)
