"""A transfer: what it infers, what it passes on, and the names that it may have."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.distillers.transfer import read_transfers
from reviewkd_mm.models.losses import HCLLoss
from reviewkd_mm.registry import MODELS
from tests.models.distillers.helpers import (
    STAGES,
    assert_same_state,
    batch,
    build_distiller,
    classifier,
    distiller_cfg,
    logits,
    review,
    teacher_classifier,
    total,
)

STUDENT_CHANNELS, TEACHER_CHANNELS = [4, 8, 16, 16], [8, 16, 32, 32]


class Widen(BaseModule):
    """A connector that knows nothing of sizes and counts how often it was initialised."""

    def __init__(self, in_channels: list[int], out_channels: list[int]) -> None:
        super().__init__()
        self.channels = in_channels, out_channels
        self.convs = nn.ModuleList(map(self.conv, in_channels, out_channels))
        self.initialised = 0

    @staticmethod
    def conv(inner: int, outer: int) -> nn.Conv2d:
        return nn.Conv2d(inner, outer, 1)

    def init_weights(self) -> None:
        self.initialised += 1

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [conv(x) for conv, x in zip(self.convs, features, strict=True)]


class One(nn.Module):
    """A connector of one feature, which takes its channels as numbers."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [self.conv(features[0])]


@MMPRETRAIN_MODELS.register_module(name='FixedConnector')
class Fixed(nn.Module):
    """A connector without channels."""

    def forward(self, features: list[Tensor], out_sizes: list[tuple[int, int]]) -> list[Tensor]:
        self.out_sizes = out_sizes
        return [x.repeat_interleave(2, dim=1) for x in features]


def connector_of(**kwargs) -> nn.Module:
    distiller = build_distiller(transfers=dict(review=review(**kwargs)))
    return distiller.transfers.review.connector


def test_channels_are_inferred_from_shallow_to_deep():
    assert connector_of(connector=dict(type=Widen)).channels == (
        STUDENT_CHANNELS,
        TEACHER_CHANNELS,
    )


@pytest.mark.parametrize('kind', [list, tuple])
def test_channels_given_by_hand_may_be_right(kind):
    given = dict(in_channels=kind(STUDENT_CHANNELS), out_channels=kind(TEACHER_CHANNELS))

    assert connector_of(connector=dict(type=Widen, **given)).channels == tuple(given.values())


def test_one_number_serves_one_tap():
    cfg = dict(type=One, in_channels=16, out_channels=32)

    connector = connector_of(connector=cfg, student='neck', teacher='neck')

    assert (connector.conv.in_channels, connector.conv.out_channels) == (16, 32)


def test_a_connector_without_channels_gets_none_and_sizes_if_it_asks():
    connector = connector_of(connector=dict(type=Fixed))

    assert connector.out_sizes == [(64, 64), (32, 32), (16, 16), (1, 1)]


def test_no_connector_compares_the_features_themselves():
    transfer = dict(student='head', teacher='head', loss=dict(type='HCLLoss'))

    distiller = build_distiller(transfers=dict(kd=transfer))

    assert distiller.transfers.kd.connector is None
    assert not list(distiller.transfers.parameters())
    assert distiller.loss(*batch())['loss_kd'] > 0


def test_built_connector_and_loss():
    connector = ReviewConnector(STUDENT_CHANNELS, TEACHER_CHANNELS)
    loss = HCLLoss(loss_weight=2.0)

    distiller = build_distiller(
        transfers=dict(review=dict(review(), connector=connector, loss=loss))
    )

    transfer = distiller.transfers.review
    assert transfer.connector is connector
    assert transfer.loss is loss
    names = [name.split('.')[1:3] for name in distiller.transfers.state_dict()]
    assert {tuple(name) for name in names} == {('connector', 'abfs')}
    copied = copy.deepcopy(distiller).transfers.review
    assert copied.connector is not connector


def test_config_is_left_as_it_was():
    cfg = distiller_cfg()
    kept = copy.deepcopy(cfg)

    MODELS.build(cfg)

    assert cfg == kept


def test_bare_names_are_ours_in_every_scope():
    from mmengine.registry import DefaultScope

    for scope in ('mmdet', 'mmpretrain', None):
        with DefaultScope.overwrite_default_scope(scope):
            assert type(connector_of()) is ReviewConnector


@pytest.mark.parametrize('kind', ['_scope_', 'prefix'])
def test_names_of_other_scopes_can_be_given(kind):
    name = 'mmpretrain.FixedConnector' if kind == 'prefix' else 'FixedConnector'
    scope = {} if kind == 'prefix' else dict(_scope_='mmpretrain')

    assert type(connector_of(connector=dict(type=name, **scope))) is Fixed


def test_connectors_start_the_same_whatever_the_seed():
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        weights.append(build_distiller().transfers.review.state_dict())

    assert_same_state(*weights)


def test_connectors_are_initialised_once_by_their_own_method():
    distiller = build_distiller(transfers=dict(review=review(connector=dict(type=Widen))))

    distiller.init_weights()

    assert distiller.transfers.review.connector.initialised == 1


def test_probing_leaves_the_connectors_statistics():
    connector = connector_of()

    bns = [m for m in connector.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bns
    assert all(m.training for m in connector.modules())
    assert all(bn.num_batches_tracked == 0 and not bn.running_mean.any() for bn in bns)


def test_two_transfers_train_their_own_connectors():
    shallow = review(student=STAGES[:2], teacher=STAGES[:2])
    distiller = build_distiller(transfers=dict(deep=review(), shallow=shallow, kd=logits()))

    losses = distiller.loss(*batch())
    total(losses).backward()

    assert list(losses) == ['loss_cls', 'loss_deep', 'loss_shallow', 'loss_kd']
    assert len(distiller.transfers.shallow.connector.abfs) == 2
    assert all(p.grad is not None for p in distiller.transfers.parameters())


@pytest.mark.parametrize('name', ['review', 'kd_2', '_x', 'class', 'Neck'])
def test_names_that_a_transfer_may_have(name):
    distiller = build_distiller(transfers={name: logits()})

    assert f'loss_{name}' in distiller.loss(*batch())


@pytest.mark.parametrize(
    'name', ['a.b', '', 'a b', '2nd', 5, None, 'cls', 'items', 'forward', 'training', 'pop']
)
def test_names_that_a_transfer_may_not_have(name):
    with pytest.raises(ValueError, match=rf'^transfers\.{name}: '):
        read_transfers({name: logits()})


def test_a_transfer_is_a_function_of_the_features():
    transfer = build_distiller().transfers.review.double()
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        [
            torch.randn(2, channels, side, side, generator=generator, dtype=torch.float64)
            for channels, side in zip(widths, (16, 8, 4, 1), strict=True)
        ]
        for widths in (STUDENT_CHANNELS, TEACHER_CHANNELS)
    )

    loss = transfer(student, teacher)

    sizes = [feature.shape[-2:] for feature in teacher]
    expected = transfer.loss(transfer.connector(student, out_sizes=sizes), teacher)
    assert loss == expected > 0
    half = [feature.to(torch.bfloat16) for feature in teacher]
    assert transfer(student, half).dtype == torch.float64


class OfSamples(nn.Module):
    """A loss that reads the samples."""

    def forward(self, student: list, teacher: list, data_samples: list) -> Tensor:
        return student[0].mean() + sum(sample.gt_label.sum() for sample in data_samples)


def test_a_loss_that_asks_for_the_samples_gets_them():
    inputs, samples = batch()
    loss = dict(type=OfSamples)
    distiller = build_distiller(transfers=dict(a=dict(student='neck', teacher='neck', loss=loss)))

    labels = sum(sample.gt_label.sum() for sample in samples)
    first = distiller.loss(inputs, samples)['loss_a']
    for sample in samples:
        sample.set_gt_label(sample.gt_label + 1)

    assert labels > 0
    more = distiller.loss(inputs, samples)['loss_a'] - first
    assert more.item() == pytest.approx(len(samples), abs=1e-4)


def test_dummy_features_show_what_is_compared():
    distiller = build_distiller()

    student, teacher = distiller.dummy_features((32, 64))['review']

    assert [tap for tap, _ in student] == STAGES
    before = [f'{stage}.-1.relu (input)' for stage in STAGES[:3]]
    assert [tap for tap, _ in teacher] == [*before, 'neck']
    assert student[1][1].shape == (1, 8, 16, 32)
    assert not distiller.student_recorders['review'].recorded


class Tokens(nn.Module):
    """A neck that gives tokens (N, L, C)."""

    def forward(self, x: tuple[Tensor, ...]) -> Tensor:
        return x[-1].flatten(2).transpose(1, 2)


class PoolAfterTokens(nn.Module):
    """A neck that pools tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = Tokens()

    def forward(self, x: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (self.tokens(x).mean(1),)


@pytest.mark.parametrize('part', ['connector', 'loss'])
@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_a_part_that_takes_no_tokens_is_refused_with_the_tap_that_gives_them(part, side):
    models = dict(student=classifier(), teacher=teacher_classifier())
    models[side]['neck'] = dict(type=Tokens)
    connector = dict(connector=dict(type='ReviewConnector')) if part == 'connector' else {}
    transfer = dict(student='neck', teacher='neck', loss=dict(type='HCLLoss'), **connector)

    with pytest.raises(ValueError, match=rf'^transfers\.a\.{part}: ') as caught:
        build_distiller(**models, transfers=dict(a=transfer))

    assert f"; the {side}'s tap 'neck' gives (1, 256, " in str(caught.value)


def test_tokens_reach_a_loss_that_takes_them():
    class Distance(nn.Module):
        def forward(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
            return (student[0].mean(-1) - teacher[0].mean(-1)).square().mean()

    transfer = dict(student='neck.tokens', teacher='neck.tokens', loss=Distance())
    neck = dict(type=PoolAfterTokens)

    distiller = build_distiller(
        student=classifier(neck=neck),
        teacher=teacher_classifier(neck=neck),
        transfers=dict(a=transfer),
    )

    assert distiller.loss(*batch())['loss_a'] > 0
