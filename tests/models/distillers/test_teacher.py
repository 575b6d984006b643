"""The frozen teacher: its mode, its state, its weights and its place outside of the distiller."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.models.distillers.helpers import (
    STAGES,
    assert_same_state,
    batch,
    build,
    build_distiller,
    classifier,
    distiller_cfg,
    logits,
    review,
    state_of,
    teacher_classifier,
    total,
    train,
)
from tests.numbers import assert_close64


class Picky(nn.Module):
    """A neck that insists on the maps of an image of one size, as some transformers do."""

    def forward(self, features: tuple) -> tuple:
        assert features[-1].shape[-1] == 224 // 4
        return features


class Pooled(nn.Module):
    """A neck with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: tuple) -> tuple:
        return (self.dropout(features[-1].mean((2, 3))),)


@pytest.mark.parametrize('train_bn', [False, True])
def test_teacher_is_in_eval_mode_and_stays_there(train_bn):
    distiller = build_distiller(
        teacher=teacher_classifier(neck=dict(type=Pooled)), teacher_options=dict(train_bn=train_bn)
    )

    distiller.train()

    assert distiller.student.training
    training = {type(m).__name__ for m in distiller.teacher.modules() if m.training}
    assert training == ({'BatchNorm2d'} if train_bn else set())


@pytest.mark.parametrize('part', ['', 'backbone', 'neck.dropout'])
def test_dropout_stays_off_after_a_user_set_the_teacher_to_training(part):
    distiller = build_distiller(teacher=teacher_classifier(neck=dict(type=Pooled)))
    inputs, samples = batch()
    seen = []
    distiller.teacher.neck.register_forward_hook(lambda *args: seen.append(args[2][0]))
    distiller.loss(inputs, samples)

    distiller.teacher.get_submodule(part).train()
    distiller.loss(inputs, samples)

    assert torch.equal(*seen)
    assert not any(module.training for module in distiller.teacher.modules())


def test_no_gradient_reaches_the_teacher():
    distiller = build_distiller()

    total(distiller.loss(*batch())).backward()

    parameters = list(distiller.teacher.parameters())
    assert not any(p.requires_grad for p in parameters)
    assert all(p.grad is None for p in parameters)


def test_teacher_features_carry_no_graph_even_if_a_user_unfreezes_it():
    distiller = build_distiller()
    distiller.teacher.requires_grad_(True)
    seen = []
    distiller.teacher.backbone.layer1.register_forward_hook(lambda *args: seen.append(args[2]))

    distiller.loss(*batch())

    assert seen[0].grad_fn is None
    assert not seen[0].requires_grad


def test_teacher_follows_images_to_another_device():
    """As under FSDP, which moves the parameters of the student by themselves."""
    features = build_distiller().record_teacher(torch.zeros(4, 3, 32, 32, device='meta'))

    assert {feature.device.type for feature in features['review']} == {'meta'}


@pytest.mark.parametrize('train_bn', [False, True])
def test_training_leaves_the_teacher_as_it_was(tmp_path, train_bn):
    initial = build_distiller(teacher_options=dict(train_bn=train_bn))

    runner = train(distiller_cfg(teacher_options=dict(train_bn=train_bn)), tmp_path)

    assert_same_state(state_of(runner.model.teacher), state_of(initial.teacher))


def test_train_bn_takes_the_statistics_of_the_batch():
    distiller = build_distiller(teacher_options=dict(train_bn=True)).double()
    bn = distiller.teacher.backbone.bn1
    seen = []
    bn.register_forward_hook(lambda *args: seen.extend([args[1][0].clone(), args[2].clone()]))
    inputs, samples = batch()

    distiller.loss(inputs.double(), samples)

    given, normalised = seen
    expected = F.batch_norm(given, None, None, bn.weight, bn.bias, training=True, eps=bn.eps)
    assert_close64(normalised, expected)


def test_without_train_bn_an_image_is_seen_alone():
    distiller = build_distiller().double()
    inputs, samples = batch()
    seen = []
    distiller.teacher.neck.register_forward_hook(lambda *args: seen.append(args[2][0]))

    distiller.loss(inputs.double(), samples)
    distiller.loss(inputs[:2].double(), samples[:2])

    assert_close64(seen[0][:2], seen[1])


def test_teacher_is_no_part_of_the_module():
    distiller = build_distiller()
    own = {id(tensor) for tensor in state_of_refs(distiller.teacher)}

    assert not own & {id(tensor) for tensor in state_of_refs(distiller)}
    assert {name.partition('.')[0] for name in distiller.state_dict()} == {'student', 'transfers'}
    assert distiller.teacher not in list(distiller.modules())
    assert not any(name.startswith('teacher') for name, _ in distiller.named_modules())


def state_of_refs(model: nn.Module) -> list[torch.Tensor]:
    return [*model.parameters(), *model.buffers()]


@pytest.mark.parametrize('convert', [nn.Module.double, lambda m: m.to(torch.float64)])
def test_teacher_follows_the_dtype(convert):
    distiller = convert(build_distiller())
    inputs, samples = batch()

    losses = distiller.loss(inputs.double(), samples)

    assert all(p.dtype == torch.float64 for p in distiller.teacher.parameters())
    assert all(loss.dtype == torch.float64 for loss in losses.values())


def test_device_is_passed_on_to_the_teachers_data_preprocessor():
    distiller = build_distiller().to('meta')

    assert next(distiller.teacher.parameters()).device.type == 'meta'
    assert distiller.teacher.data_preprocessor.device.type == 'meta'


def test_deep_copy_shares_the_teacher():
    distiller = build_distiller()

    copied = copy.deepcopy(distiller)

    assert copied.teacher is distiller.teacher
    assert copied.student is not distiller.student


def test_a_copy_that_moves_leaves_the_original_its_teacher():
    distiller = build_distiller()
    inputs, samples = batch()

    copied = copy.deepcopy(distiller).double()

    assert next(distiller.teacher.parameters()).dtype == torch.float32
    actual = copied.loss(inputs.double(), samples)['loss_review']
    assert actual.dtype == torch.float64
    assert_close64(actual, distiller.double().loss(inputs.double(), samples)['loss_review'])


def test_weights_loaded_into_the_teacher_later_count():
    other = build(teacher_classifier(), seed=7)
    distiller = build_distiller()
    expected = build_distiller(teacher=copy.deepcopy(other), teacher_ckpt=None)

    distiller.teacher.load_state_dict(other.state_dict())

    inputs, samples = batch()
    distiller.eval(), expected.eval()
    expected.load_state_dict(distiller.state_dict())
    assert torch.equal(
        distiller.loss(inputs, samples)['loss_review'],
        expected.loss(inputs, samples)['loss_review'],
    )


def test_random_teacher_is_the_same_whatever_the_seed():
    torch.manual_seed(1)
    first = build_distiller().teacher
    torch.manual_seed(2)
    second = build_distiller().teacher

    assert_same_state(state_of(first), state_of(second))


def test_random_teacher_downloads_nothing():
    cfg = teacher_classifier(init_cfg=dict(type='Pretrained', checkpoint='/nowhere/image.pth'))
    cfg['backbone']['init_cfg'] = [
        dict(type='Pretrained', checkpoint='https://127.0.0.1:9/weights.pth'),
        dict(checkpoint='https://127.0.0.1:9/weights.pth'),  # as MMDetection's PVT has it
        dict(type='Constant', layer='Conv2d', val=0.125),
    ]

    teacher = build_distiller(teacher=cfg).teacher

    assert (teacher.backbone.conv1.weight == 0.125).all()


def test_random_teacher_has_statistics_of_its_features():
    teacher = build_distiller().teacher
    default = torch.zeros(8)

    assert not torch.equal(teacher.backbone.bn1.running_mean, default)
    assert {m.momentum for m in teacher.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_random_teacher_has_statistics_where_it_takes_images_of_one_size_alone():
    teacher = build_distiller(teacher=teacher_classifier(neck=dict(type=Picky))).teacher

    assert not torch.equal(teacher.backbone.bn1.running_mean, torch.zeros(8))


def test_features_of_a_deep_random_teacher_stay_moderate():
    cfg = classifier((16, 16, 32, 64))
    cfg['backbone']['depth'] = 56
    teacher = build_distiller(teacher=cfg, transfers=dict(kd=logits())).teacher
    row = torch.linspace(-2, 2, 64)
    images = torch.stack([row[:, None] * row, row.expand(64, 64)])[:, None].repeat(1, 3, 1, 1)

    (features,) = teacher.backbone(images)

    assert 0.1 < features.std() < 10


def test_features_of_a_random_teacher_stay_moderate_whatever_pixels_it_reads():
    raw = dict(mean=[0.0] * 3, std=[1.0] * 3)
    teacher = build_distiller(
        teacher=teacher_classifier(data_preprocessor=raw), transfers=dict(kd=logits())
    ).teacher
    torch.manual_seed(0)
    images = teacher.data_preprocessor(dict(inputs=torch.randint(0, 256, (8, 3, 32, 32))))

    features = teacher.backbone(images['inputs'])[-1]

    assert 0.1 < features.std() < 10


def test_given_checkpoint_skips_pretrained_init_cfg(tmp_path):
    weights = build(teacher_classifier(), seed=3)
    torch.save(dict(state_dict=weights.state_dict()), tmp_path / 'teacher.pth')
    cfg = teacher_classifier(init_cfg=dict(type='Pretrained', checkpoint='/nowhere/image.pth'))

    distiller = build_distiller(teacher=cfg, teacher_ckpt=tmp_path / 'teacher.pth')
    distiller.init_weights()

    assert_same_state(state_of(distiller.teacher), state_of(weights))


def test_built_teacher_brings_its_weights():
    teacher = build(teacher_classifier(), seed=3)
    expected = state_of(teacher)

    distiller = build_distiller(teacher=teacher, teacher_ckpt=None)
    distiller.init_weights()

    assert distiller.teacher is teacher
    assert_same_state(state_of(teacher), expected)


def test_teacher_without_weights_is_refused():
    with pytest.raises(ValueError, match=r"teacher='mmpretrain.ImageClassifier'.*teacher_ckpt"):
        build_distiller(teacher_ckpt=None)


def test_teacher_of_another_head_needs_the_pattern(tmp_path):
    cfg = teacher_classifier()
    torch.save(build(cfg).state_dict(), tmp_path / 'teacher.pth')
    cfg['head']['num_classes'] = 9
    options = dict(teacher=cfg, teacher_ckpt=str(tmp_path / 'teacher.pth'))

    with pytest.raises(RuntimeError, match=r'teacher_ckpt=.*head\.fc\.weight.*5, 32.*9, 32'):
        build_distiller(**options)
    distiller = build_distiller(**options, allow_mismatch=['teacher.head.fc.*'])

    assert distiller.teacher.head.fc.out_features == 9


def test_taps_of_a_teacher_without_a_neck():
    stages = STAGES[:3]
    distiller = build_distiller(
        teacher=teacher_classifier(neck=None),
        transfers=dict(review=review(student=stages, teacher=stages)),
    )

    assert distiller.loss(*batch())['loss_review'] > 0
