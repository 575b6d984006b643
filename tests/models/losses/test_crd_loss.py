"""CRDLoss: what is contrasted with what, the negatives, its state, precision and errors."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from reviewkd_mm.models.losses import CRDLoss, crd_loss
from reviewkd_mm.registry import MODELS
from tests.models.losses.drawing import noise, samples
from tests.models.losses.test_memory_bank import first_normaliser, nce
from tests.numbers import assert_close64, assert_within_rounding

LENGTH = 12
INDICES, LABELS = [5, 0, 11], [1, 0, 1]


def crd(**kwargs) -> CRDLoss:
    torch.manual_seed(0)
    settings = dict(
        in_channels=4, out_channels=6, num_samples=LENGTH, num_negatives=5, embed_channels=3
    )
    return CRDLoss(**{**settings, **kwargs}).double()


def batch(seed: int = 0) -> tuple:
    return noise(3, 4, seed=seed), noise(3, 6, seed=seed + 1), samples(LABELS, INDICES)


def negatives(loss: CRDLoss, indices: list[int], labels: list[int] | None) -> torch.Tensor:
    given = None if labels is None else torch.tensor(labels)
    return loss._negatives(torch.tensor(indices), given)


def test_smoke():
    cfg = dict(type='reviewkd_mm.CRDLoss', in_channels=[4], out_channels=[6], num_samples=50000)
    loss = MODELS.build(cfg)
    assert isinstance(loss, CRDLoss)
    assert loss.num_negatives == 16384
    assert loss.teacher_bank.vectors.shape == (50000, 128)
    assert (loss.teacher_bank.tau, loss.teacher_bank.momentum) == (0.07, 0.5)
    student, teacher, given = batch()
    value = loss([student.float()[:, :, None, None]], [teacher.float()], given)
    assert value.shape == ()
    assert value > 0


@pytest.mark.parametrize('class_aware', [True, False])
def test_value_is_that_of_explicit_loops_with_fixed_negatives(monkeypatch, class_aware):
    """The student's embedding is sought in the teacher's memory and the other way round."""
    loss = crd(class_aware=class_aware, tau=0.3, loss_weight=0.8)
    drawn = torch.tensor([[1, 2, 3, 4, 6], [2, 4, 6, 8, 10], [1, 3, 7, 8, 9]])
    monkeypatch.setattr(CRDLoss, '_negatives', lambda *args: drawn)
    candidates = torch.cat([torch.tensor(INDICES)[:, None], drawn], dim=1).numpy()
    student, teacher, given = batch()
    expected = 0.0
    for x, layer, memory in (
        (student, loss.embed_student, loss.teacher_bank),
        (teacher, loss.embed_teacher, loss.student_bank),
    ):
        embedding = (x @ layer.weight.T + layer.bias).detach()
        embedding = (embedding / embedding.norm(dim=1, keepdim=True)).numpy()
        arrays = embedding, memory.vectors.numpy().copy(), candidates
        expected += nce(*arrays, 0.3, first_normaliser(*arrays, 0.3))

    value = loss(student, teacher, given)

    assert value.item() == pytest.approx(0.8 * expected, rel=1e-10)


@pytest.mark.parametrize('labels', [None, [1, 0, 1]])
def test_negatives_are_others_and_none_twice(labels):
    loss = crd(num_negatives=11, class_aware=labels is not None)
    for row, own in zip(negatives(loss, INDICES, labels).tolist(), INDICES, strict=True):
        assert sorted(row) == [i for i in range(LENGTH) if i != own]


def test_negatives_are_of_other_classes_once_labels_are_known():
    loss = crd(num_negatives=6)
    loss.labels.copy_(torch.arange(LENGTH) % 2)
    drawn = negatives(loss, [5, 0, 11], [1, 0, 1])
    assert [{i % 2 for i in row} for row in drawn.tolist()] == [{0}, {1}, {0}]


def test_where_there_are_too_few_others_a_class_fills_up_but_an_image_does_not():
    loss = crd(num_negatives=11)
    loss.labels.fill_(1)
    loss.labels[:3] = 0
    (row,) = negatives(loss, [5], [1]).tolist()
    assert sorted(row) == [i for i in range(LENGTH) if i != 5]


def test_negatives_are_drawn_evenly_and_anew_for_each_image():
    loss = crd(class_aware=False)
    drawn = negatives(loss, [7] * 2000, None)
    counts = torch.bincount(drawn.flatten(), minlength=LENGTH)
    assert counts[7] == 0
    expected = 2000 * 5 / 11
    others = counts[[i for i in range(LENGTH) if i != 7]]
    assert ((others - expected).abs() < 0.15 * expected).all()
    assert not torch.equal(drawn[0].sort()[0], drawn[1].sort()[0])


def test_a_batch_is_remembered_in_training_alone():
    loss = crd()
    student, teacher, given = batch()
    before = copy.deepcopy(loss.state_dict())

    loss.eval()(student, teacher, given)
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name])
    loss.train()(student, teacher, given)

    for memory, layer, x in (
        ('student_bank', loss.embed_student, student),
        ('teacher_bank', loss.embed_teacher, teacher),
    ):
        old = before[f'{memory}.vectors'][INDICES]
        expected = F.normalize(old + F.normalize(layer(x), dim=1), dim=1)
        assert_close64(getattr(loss, memory).vectors[INDICES], expected.detach())
    assert loss.labels[INDICES].tolist() == LABELS
    assert (loss.labels == -1).sum() == LENGTH - 3


def test_every_process_remembers_the_batches_of_all(monkeypatch):
    """The other process has image 2, of class 3, whose embeddings are the first axis."""
    loss, axis = crd(), torch.eye(3, dtype=torch.float64)[:1]
    of_the_other = iter([torch.tensor([2]), axis, axis, torch.tensor([3])])
    monkeypatch.setattr(crd_loss, 'all_gather', lambda x: [x, next(of_the_other)])
    before = loss.student_bank.vectors[2].clone()

    loss(*batch())

    expected = F.normalize(before + axis[0], dim=0)
    assert_close64(loss.student_bank.vectors[2], expected)
    assert loss.labels[[*INDICES, 2]].tolist() == [*LABELS, 3]


def test_a_run_goes_on_from_its_state_as_if_nothing_had_happened():
    loss = crd()
    loss(*batch())
    resumed = crd()
    resumed.load_state_dict(loss.state_dict())

    values = []
    for one in (loss, resumed):
        torch.manual_seed(4)
        values.append([one(*batch(seed)) for seed in (3, 5)])

    assert values[0] == values[1]


def test_gradients_reach_the_student_and_both_embeddings():
    loss = crd()
    student, teacher, given = batch()
    student.requires_grad_()

    loss(student, teacher, given).backward()

    assert student.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())


def test_gradient_of_the_student_is_that_of_finite_differences():
    loss = crd().eval()
    student, teacher, given = batch()
    loss.teacher_bank.scale.fill_(20.0)

    def value(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(2)  # The same negatives each time.
        return loss(x, teacher, given)

    assert torch.autograd.gradcheck(value, student.requires_grad_())


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype, autocast):
    loss = crd(tau=0.07).float()
    wider = {wide: copy.deepcopy(loss).to(wide) for wide in (torch.float32, torch.float64)}
    student, teacher, given = batch()
    student, teacher = student.to(dtype).requires_grad_(), teacher.to(dtype)

    torch.manual_seed(1)
    with torch.autocast('cpu', dtype=dtype, enabled=autocast):
        value = loss(student, teacher, given)
    value.backward()

    values = []
    for wide, one in wider.items():
        torch.manual_seed(1)
        values.append(one(student.detach().to(wide), teacher.to(wide), given))
    assert value.dtype == torch.float32
    assert_within_rounding(value, *values)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(tau=0), 'tau=0'),
        (dict(momentum=-1), 'momentum=-1'),
        (dict(momentum=1.5), r'momentum=1.5: expected a number in \[0, 1\]'),
        (dict(num_negatives=0), 'num_negatives=0'),
        (dict(num_negatives=LENGTH), f'num_negatives={LENGTH}.*num_samples={LENGTH}'),
        (dict(loss_weight=-1), 'loss_weight=-1'),
        (dict(in_channels=[4, 4]), r'in_channels=\[4, 4\]: expected the channels of one feature'),
        (dict(out_channels=[]), r'out_channels=\[\]'),
    ],
)
def test_wrong_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        crd(**kwargs)


def test_indices_and_labels_are_needed():
    student, teacher, given = batch()
    with pytest.raises(ValueError, match='got none'):
        crd()(student, teacher)
    with pytest.raises(ValueError, match='sample_idx=None'):
        crd()(student, teacher, samples(LABELS))
    for sample in given:
        del sample.gt_label
    with pytest.raises(ValueError, match='gt_label=None'):
        crd()(student, teacher, given)
    assert crd(class_aware=False)(student, teacher, given) > 0


def test_repr_says_the_settings():
    start = 'num_samples=12, num_negatives=5, class_aware=True, loss_weight=1.0'
    assert start in repr(crd())
