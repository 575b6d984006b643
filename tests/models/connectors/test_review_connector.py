"""ReviewConnector: what it returns, what it depends on, its names and its initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.losses import HCLLoss
from reviewkd_mm.registry import MODELS
from tests.models.connectors.textbook import (
    random_features,
    random_weights,
    review,
    state_dict_name,
)
from tests.models.losses.textbook import hcl
from tests.numbers import assert_close64, assert_within_rounding

pytestmark = pytest.mark.usefixtures('in_float64')

SQUARE = [(8, 8), (4, 4), (2, 2), (1, 1)]
WIDE = [(6, 10), (3, 5), (2, 3), (1, 2)]
ODD = [(7, 7), (5, 5), (3, 3)]
CASES = {
    'square': (SQUARE, SQUARE),
    'not square': (WIDE, WIDE),
    'odd': (ODD, ODD),
    'larger teacher': ([(8, 8), (4, 4), (1, 1)], [(16, 16), (8, 8), (1, 1)]),
    'smaller teacher': ([(8, 8), (4, 6)], [(4, 4), (2, 3)]),
    'transposed teacher': (ODD, [(9, 4), (3, 6), (2, 1)]),
    'one stage': ([(4, 4)], [(8, 8)]),
}
CHANNELS = {'in_channels': [3, 4, 5], 'out_channels': [4, 2, 6]}
SIZES = [(8, 8), (4, 4), (2, 2)]


def features(**kwargs) -> list[torch.Tensor]:
    return random_features(CHANNELS['in_channels'], SIZES, **kwargs)


def load(connector: ReviewConnector, weights: dict[str, torch.Tensor]) -> None:
    """Load the textbook's weights and statistics."""
    state = {state_dict_name(name): value for name, value in weights.items()}
    missing, unexpected = connector.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith('num_batches_tracked') for name in missing)


def test_smoke():
    connector = MODELS.build({'type': 'reviewkd_mm.ReviewConnector', **CHANNELS})
    assert isinstance(connector, ReviewConnector)
    outputs = connector(features())
    assert isinstance(outputs, list)
    assert [tuple(x.shape) for x in outputs] == [(2, 4, 8, 8), (2, 2, 4, 4), (2, 6, 2, 2)]


@pytest.mark.parametrize('attention', [True, False])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('case', CASES)
def test_outputs_and_gradients_are_those_of_the_equations(case, training, attention):
    student_sizes, teacher_sizes = CASES[case]
    stages = len(student_sizes)
    inner, outer = [3, 4, 5, 2][:stages], [4, 2, 6, 3][:stages]
    weights = random_weights(inner, outer, mid=4)
    if not attention:
        weights = {name: weight for name, weight in weights.items() if '.att.' not in name}
    connector = ReviewConnector(inner, outer, mid_channels=4, attention=attention)
    load(connector.train(training), weights)

    trained = {k: w.clone().requires_grad_() for k, w in weights.items() if 'running' not in k}
    textbook_inputs = [x.requires_grad_() for x in random_features(inner, student_sizes)]
    inputs = [x.detach().clone().requires_grad_() for x in textbook_inputs]
    expected = review(textbook_inputs, teacher_sizes, weights | trained, training)
    outputs = connector(inputs, out_sizes=teacher_sizes)
    assert_close64(outputs, expected)

    for values in (outputs, expected):
        sum(value.pow(3).sum() for value in values).backward()
    assert_close64([x.grad for x in inputs], [x.grad for x in textbook_inputs])
    grads = {name: p.grad for name, p in connector.named_parameters()}
    assert_close64(grads, {state_dict_name(k): w.grad for k, w in trained.items()})


@pytest.mark.parametrize('mid_channels', [None, 16])
def test_channels_in_which_features_are_fused(mid_channels):
    assert ReviewConnector([8], [8], mid_channels).abfs[0].conv1.out_channels == (
        mid_channels or 8
    )
    wide = ReviewConnector([8, 1024], [8, 8], mid_channels)
    assert {abf.conv1.out_channels for abf in wide.abfs} == {mid_channels or 512}


def test_state_dict_names():
    names = set(ReviewConnector(**CHANNELS).state_dict())
    convs = {f'abfs.{i}.conv{k}.conv.weight' for i in range(3) for k in (1, 2)}
    attention = {f'abfs.{i}.att_conv.{p}' for i in range(2) for p in ('weight', 'bias')}
    assert {name for name in names if '.bn.' not in name} == convs | attention
    assert 'abfs.0.conv1.bn.running_mean' in names


def test_each_stage_sees_itself_and_the_deeper_ones_only():
    connector = ReviewConnector(**CHANNELS)
    inputs = [x.requires_grad_() for x in features()]
    for stage, output in enumerate(connector(inputs)):
        grads = torch.autograd.grad(
            output.pow(3).sum(), inputs, retain_graph=True, allow_unused=True
        )
        seen = [grad is not None and bool(grad.any()) for grad in grads]
        assert seen == [depth >= stage for depth in range(3)]


def test_images_do_not_mix_in_eval_mode():
    connector = ReviewConnector(**CHANNELS).eval()
    inputs = features(batch=3)
    outputs = connector(inputs)
    swapped = connector([x.flip(0) for x in inputs])
    assert_close64([x.flip(0) for x in swapped], outputs)


def test_without_sizes_the_students_are_kept():
    connector = ReviewConnector(**CHANNELS).eval()
    assert_close64(connector(features()), connector(features(), out_sizes=SIZES))


@pytest.mark.parametrize('empty', [[], ()])
def test_no_stage_is_refused(empty):
    with pytest.raises(ValueError, match='at least one'):
        ReviewConnector(empty, empty)


def test_unequal_numbers_of_stages_are_refused():
    with pytest.raises(ValueError, match=r'in_channels=\[8, 16\] \(2\).*out_channels=\[8\] \(1\)'):
        ReviewConnector([8, 16], [8])


@pytest.mark.parametrize(('count', 'sizes'), [(2, None), (3, SIZES[:2])])
def test_wrong_numbers_of_features_or_sizes_are_refused(count, sizes):
    with pytest.raises(ValueError, match='expected 3 features'):
        ReviewConnector(**CHANNELS)(features()[:count], sizes)


def test_init_weights_of_mmengine_leaves_the_initialisation_as_it_is():
    connector = ReviewConnector(**CHANNELS)
    before = {name: value.clone() for name, value in connector.state_dict().items()}
    connector.init_weights()
    after = connector.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_init_cfg_is_honoured():
    connector = ReviewConnector(
        **CHANNELS, init_cfg={'type': 'Constant', 'layer': 'Conv2d', 'val': 0.5}
    )
    connector.init_weights()
    assert (connector.abfs[1].conv1.conv.weight == 0.5).all()


@pytest.mark.parametrize(
    ('norm_cfg', 'expected'),
    [({'type': 'SyncBN'}, nn.SyncBatchNorm), ({'type': 'GN', 'num_groups': 2}, nn.GroupNorm)],
)
def test_norm_cfg_reaches_every_stage(norm_cfg, expected):
    connector = ReviewConnector([4, 4], [4, 4], norm_cfg=norm_cfg)
    norms = [norm for abf in connector.abfs for norm in (abf.conv1.norm, abf.conv2.norm)]
    assert all(isinstance(norm, expected) for norm in norms)


def test_one_image_of_one_pixel_trains_with_group_normalisation():
    norm_cfg = {'type': 'GN', 'num_groups': 2}
    connector = ReviewConnector([4, 4], [4, 6], norm_cfg=norm_cfg)
    outputs = connector([torch.randn(1, 4, 2, 2), torch.randn(1, 4, 1, 1)])
    sum(output.square().sum() for output in outputs).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in connector.parameters())


def test_compiles_into_one_graph():
    connector = ReviewConnector(**CHANNELS)
    compiled = torch.compile(connector, backend='eager', fullgraph=True)
    assert_close64(compiled(features(), SIZES), connector(features(), SIZES))


@pytest.mark.parametrize('loss_weight', [1.0, 0.0])
def test_every_parameter_gets_a_gradient(loss_weight):
    connector = ReviewConnector(**CHANNELS)
    teacher = random_features(CHANNELS['out_channels'], SIZES, seed=1)
    HCLLoss(loss_weight)(connector(features()), teacher).backward()
    grads = [p.grad for p in connector.parameters()]
    assert all(grad is not None for grad in grads)
    assert all(bool(grad.any()) == bool(loss_weight) for grad in grads)


def test_bfloat16_autocast():
    connector, loss = ReviewConnector(**CHANNELS, mid_channels=4).float(), HCLLoss()
    weights = random_weights(*CHANNELS.values(), mid=4)
    load(connector, weights)
    inputs, teacher = features(), random_features(CHANNELS['out_channels'], SIZES, seed=1)
    single, single_teacher, single_weights = (
        [x.float() for x in inputs],
        [x.float() for x in teacher],
        {name: x.float() for name, x in weights.items()},
    )

    with torch.autocast('cpu', torch.bfloat16):
        outputs = connector(single)
        value = loss(outputs, single_teacher)
        plain = review(single, SIZES, single_weights)
    value.backward()

    assert outputs[0].dtype == torch.bfloat16
    assert value.dtype == torch.float32
    exact = review(inputs, SIZES, weights)
    assert_within_rounding(
        [value, *outputs],
        [hcl([x.float() for x in plain], single_teacher), *plain],
        [hcl(exact, teacher), *exact],
    )
    assert all(p.grad.isfinite().all() for p in connector.parameters())
