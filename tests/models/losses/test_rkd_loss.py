"""RKDLoss: values on triangles, invariances, precision and errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from reviewkd_mm.models.losses import RKDLoss
from reviewkd_mm.registry import MODELS
from tests.models.losses.drawing import noise
from tests.numbers import assert_close64, assert_within_rounding

RIGHT = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
EQUILATERAL = torch.eye(3, dtype=torch.float64)


def smooth_l1(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def rkd(student: Tensor, teacher: Tensor, distance_weight: float, angle_weight: float) -> float:
    """Evaluate the equations pair by pair and triplet by triplet."""
    count = len(student)

    def distances(x: Tensor) -> list[list[float]]:
        table = [[(a - b).square().sum().sqrt().item() for b in x] for a in x]
        apart = [value for row in table for value in row if value > 0]
        return [[value * len(apart) / sum(apart) for value in row] for row in table]

    def cosine(x: Tensor, i: int, j: int, k: int) -> float:
        one, other = x[i] - x[j], x[k] - x[j]
        length = one.norm() * other.norm()
        return (one @ other / length).item() if length > 0 else 0.0

    s, t = distances(student), distances(teacher)
    pairs = sum(smooth_l1(s[i][j] - t[i][j]) for i in range(count) for j in range(count))
    triplets = sum(
        smooth_l1(cosine(student, i, j, k) - cosine(teacher, i, j, k))
        for i in range(count)
        for j in range(count)
        for k in range(count)
    )
    return distance_weight * pairs / count**2 + angle_weight * triplets / count**3


def test_smoke():
    loss = MODELS.build({'type': 'reviewkd_mm.RKDLoss'})
    assert isinstance(loss, RKDLoss)
    assert (loss.distance_weight, loss.angle_weight) == (25, 50)
    value = loss([noise(4, 5, 1, 1)], [noise(4, 7, 1, 1, seed=1)])
    assert value.shape == ()
    assert value > 0


def test_distances_of_triangles_by_hand():
    """Sides 3, 4, 5 over their mean, 4, against sides that are all 1 over their mean."""
    expected = 2 * (smooth_l1(3 / 4 - 1) + smooth_l1(0) + smooth_l1(5 / 4 - 1)) / 9
    value = RKDLoss(25, 0)(RIGHT, EQUILATERAL)
    assert value.item() == pytest.approx(25 * expected, rel=1e-12)


def test_angles_of_triangles_by_hand():
    """Cosines 0, 3/5 and 4/5, each of two triplets, against 1/2; all others are equal."""
    expected = 2 * sum(smooth_l1(cosine - 1 / 2) for cosine in (0, 3 / 5, 4 / 5)) / 27
    value = RKDLoss(0, 50)(RIGHT, EQUILATERAL)
    assert value.item() == pytest.approx(50 * expected, rel=1e-12)


@pytest.mark.parametrize('weights', [(25, 50), (1, 0), (0, 1)])
def test_value_is_that_of_the_equations(weights):
    student, teacher = noise(6, 3), noise(6, 5, seed=1)
    student[4] = student[2]  # Two that are not apart.
    expected = rkd(student, teacher, *weights)
    assert RKDLoss(*weights)(student, teacher).item() == pytest.approx(expected, rel=1e-10)


def test_layouts_and_weight():
    loss, s, t = RKDLoss(), noise(4, 5), noise(4, 3, seed=1)
    value = loss(s, t)
    assert loss([s[:, :, None, None]], t[:, :, None, None]) == value
    assert_close64(RKDLoss(loss_weight=2.0)(s, t), 2 * value)


def test_invariances():
    loss, s, t = RKDLoss(), noise(5, 4), noise(5, 3, seed=1)
    value = loss(s, t)
    assert loss(s, s) == 0
    assert_close64(loss(7 * s + 1, 0.1 * t - noise(3)), value)
    assert_close64(loss(s.flip(0), t.flip(0)), value)
    assert_close64(loss(s @ torch.linalg.qr(noise(4, 4, seed=2)).Q, t), value)


@pytest.mark.parametrize('count', [1, 4])
def test_images_that_are_all_alike_give_finite_gradients(count):
    student = torch.ones(count, 3, requires_grad=True)
    value = RKDLoss()(student, noise(count, 3, dtype=torch.float32))
    value.backward()
    assert (value == 0) == (count == 1)
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e3


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_large_features_in_half_precision(dtype, autocast):
    student = (6e4 * noise(4, 5).clamp(-1, 1)).to(dtype).requires_grad_()
    teacher = (6e4 * noise(4, 3, seed=1).clamp(-1, 1)).to(dtype)
    with torch.autocast('cpu', dtype=dtype, enabled=autocast):
        value = RKDLoss()(student, teacher)
    value.backward()
    assert value.dtype == torch.float32
    plain, exact = (
        RKDLoss()(student.detach().to(wide), teacher.to(wide))
        for wide in (torch.float32, torch.float64)
    )
    assert_within_rounding(value, plain, exact)
    assert student.grad.isfinite().all()


def test_gradcheck():
    student, teacher = noise(4, 3).requires_grad_(), noise(4, 2, seed=1)
    assert gradcheck(lambda s: RKDLoss(2, 3)(s, teacher), student)


@pytest.mark.parametrize('key', ['distance_weight', 'angle_weight', 'loss_weight'])
def test_wrong_weights_are_refused(key):
    with pytest.raises(ValueError, match=f'{key}=-1'):
        RKDLoss(**{key: -1})


def test_what_does_not_pair_up_is_refused():
    with pytest.raises(ValueError, match=r'\(2, 3\).*\(3, 3\).*same N'):
        RKDLoss()(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match='one student features tensor, got 2'):
        RKDLoss()([torch.zeros(2, 3)] * 2, torch.zeros(2, 3))


def test_repr_says_the_settings():
    expected = 'RKDLoss(distance_weight=1, angle_weight=50.0, loss_weight=1.0)'
    assert repr(RKDLoss(1)) == expected
