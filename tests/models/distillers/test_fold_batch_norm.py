"""Folding BatchNorm: the right pairs and no others, whatever a model's definition suggests."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from mmdet.models import ResNet as DetectionResNet
from mmpretrain.models import ResNet as ClassificationResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reviewkd_mm.models.backbones import CIFARResNet, CIFARWideResNet
from reviewkd_mm.models.distillers.fold_batch_norm import fold_batch_norm
from reviewkd_mm.models.recorders import Recorder
from tests.integration.detection import retinanet
from tests.models.distillers.helpers import build

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}
STAGES = ['layer1', 'layer2', 'layer3']


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def trained(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Give BatchNorm statistics, scales and shifts as after a training; return it in eval mode."""
    generator = torch.Generator().manual_seed(0)

    def draw(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    with torch.no_grad():
        for norm in norms(model):
            if norm.running_mean is not None:
                norm.running_mean.copy_(draw(norm.running_mean, -0.5, 0.5))
                norm.running_var.copy_(draw(norm.running_var, 0.5, 2.0))
            if norm.affine:
                norm.weight.copy_(draw(norm.weight, 0.5, 1.5))
                norm.bias.copy_(draw(norm.bias, -0.5, 0.5))
    # MMCV's networks return nothing from eval().
    model.to(dtype).eval()
    return model


def images(dtype: torch.dtype = torch.float32, size: int = 32, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, size, size, generator=generator, dtype=dtype)


def fold(
    model: nn.Module,
    taps: str | dict | list,
    inputs: Tensor,
    forward: Callable[[nn.Module, Tensor], object] = nn.Module.__call__,
) -> int:
    """Fold, check that the features are those of an untouched copy, and return the number."""
    recorder = Recorder(taps)

    @torch.no_grad()
    def run(of: nn.Module) -> list[Tensor]:
        with recorder.recording(of):
            forward(of, inputs)
        return [feature.clone() for feature in recorder.features()]

    expected = run(copy.deepcopy(model))
    folded = fold_batch_norm(model, lambda: run(model))

    for one, other in zip(run(model), expected, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() <= TOLERANCES[inputs.dtype] * other.norm()
    return folded


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('taps', [STAGES, ['layer1.0.bn1', 'layer3.-1.bn2'], 'relu'])
def test_every_batchnorm_of_a_cifar_resnet(dtype, taps):
    model = trained(CIFARResNet(depth=14, base_channels=(4, 4, 8, 16)), dtype)
    count = len(norms(model))

    assert fold(model, taps, images(dtype)) == count == 15
    assert not norms(model)


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize(
    ('depth', 'widen_factor', 'expected'),
    [
        # The second BatchNorm of each block reads its first convolution. With shortcuts that
        # are convolved, the first of all reads the stem and nothing else does.
        (10, 2, 3 + 1),
        (16, 2, 6 + 1),
        (16, 1, 6),
    ],
)
def test_a_wide_resnet_normalises_before_it_convolves(dtype, depth, widen_factor, expected):
    model = trained(CIFARWideResNet(depth, widen_factor), dtype)
    count = len(norms(model))

    taps = ['block1', 'block2', 'block3', 'relu']
    assert fold(model, taps, images(dtype)) == expected
    assert len(norms(model)) == count - expected


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('kind', [ClassificationResNet, DetectionResNet])
def test_every_batchnorm_of_a_zoo_resnet(dtype, kind):
    width = dict(stem_channels=8, base_channels=8)
    model = trained(kind(depth=18, **width), dtype)
    count = len(norms(model))

    assert fold(model, [*STAGES, 'layer4'], images(dtype, 64)) == count == 20


def test_the_backbone_of_a_detector_read_at_its_neck():
    model = trained(build(retinanet()))

    folded = fold(model, 'neck', images(size=64), lambda m, x: m.extract_feat(x))

    assert folded == 20
    assert not norms(model.backbone)


def test_convolution_modules_of_mmcv():
    from mmcv.cnn import ConvModule

    norm = dict(type='BN')
    model = nn.Sequential(ConvModule(3, 4, 3, norm_cfg=norm), ConvModule(4, 5, 1, norm_cfg=norm))

    assert fold(trained(model), ['0', '1'], images()) == 2


def test_synchronised_batchnorm():
    model = CIFARResNet(depth=8, base_channels=(4, 4, 8, 16))
    model = trained(nn.SyncBatchNorm.convert_sync_batchnorm(model))

    assert fold(model, STAGES, images()) == 9


@pytest.mark.parametrize(
    ('tap', 'left'),
    [
        ('layer1.0.conv1', 'layer1.0.bn1'),
        (dict(type='ModuleInputs', source='layer2.0.bn2'), 'layer2.0.bn2'),
        ('conv1', 'bn1'),
    ],
)
def test_a_tap_before_batchnorm_leaves_that_one_alone(tap, left):
    model = trained(CIFARResNet(depth=8, base_channels=(4, 4, 8, 16)))
    kept = model.get_submodule(left)

    assert fold(model, [tap, *STAGES], images()) == 8
    assert norms(model) == [kept]


def test_the_pairs_at_fault_are_found_in_few_forwards():
    model = trained(CIFARResNet(depth=20, base_channels=(4, 4, 8, 16)))
    calls = []
    model.register_forward_hook(lambda *args: calls.append(args))

    assert fold(model, ['layer2.1.conv2', 'relu'], images()) == 20
    assert len(norms(model)) == 1
    assert len(calls) <= 15


class Net(nn.Module):
    """Two convolutions and two BatchNorms of four channels, in an order that a test chooses."""

    def __init__(self, order: str = 'conv1 bn1 conv2 bn2', **kwargs) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4, **kwargs)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(4, **kwargs)
        self.relu = nn.ReLU()
        self.inplace = nn.ReLU(inplace=True)
        self.order = order.split()

    def forward(self, x: Tensor) -> Tensor:
        for name in self.order:
            x = getattr(self, name)(x)
        return x

    @staticmethod
    def double_(x: Tensor) -> Tensor:
        return x.mul_(2)

    @staticmethod
    def shift_a_view(x: Tensor) -> Tensor:
        x[:, :2] += 1
        return x

    @staticmethod
    def add_itself(x: Tensor) -> Tensor:
        return x + x.flip(1)


def fold_net(model: Net, taps: str = '') -> int:
    model.last = nn.Identity()
    model.order.append('last')
    return fold(trained(model), taps or 'last', images(channels=4, size=6))


@pytest.mark.parametrize(
    ('order', 'expected'),
    [
        ('conv1 bn1 relu conv2 bn2', 2),
        ('conv1 bn1 inplace conv2 bn2 inplace', 2),
        # Each convolution belongs to the BatchNorm of the other.
        ('conv2 bn1 relu conv1 bn2', 2),
        # As in networks that normalise first: bn2 reads conv1.
        ('bn1 relu conv1 bn2 relu conv2', 1),
        ('bn1 conv1', 0),
        ('conv1 relu bn1', 0),
        ('conv1 inplace bn1', 0),
        ('conv1 double_ bn1', 0),
        ('conv1 shift_a_view bn1', 0),
        ('conv1 add_itself bn1', 0),
        # A second BatchNorm reads the first, not the convolution.
        ('conv1 bn1 bn2', 1),
        # Shared by two calls, with BatchNorms of their own, or the other way round.
        ('conv1 bn1 relu conv1 bn2', 0),
        ('conv1 bn1 relu conv2 bn1', 0),
        ('conv1 bn1 relu conv1 bn1', 0),
        ('conv1 bn1 relu conv1', 0),
        # Only the first is called once.
        ('conv1 bn1 relu conv2 bn2 relu conv2', 1),
    ],
)
def test_pairs_are_what_a_forward_shows(order, expected):
    assert fold_net(Net(order)) == expected


class Skip(Net):
    """The convolution's output goes past BatchNorm too."""

    def forward(self, x: Tensor) -> Tensor:
        convolved = self.conv1(x)
        return self.last(self.bn2(self.conv2(self.bn1(convolved) + convolved)))


class TwoNorms(Net):
    """Two BatchNorms read the output of one convolution."""

    def forward(self, x: Tensor) -> Tensor:
        convolved = self.conv1(x)
        return self.last(self.bn1(convolved) * self.bn2(convolved))


@pytest.mark.parametrize(('kind', 'left'), [(Skip, ['bn1']), (TwoNorms, ['bn1', 'bn2'])])
def test_a_convolution_that_is_read_twice_is_left_alone(kind, left):
    model = kind()

    assert fold_net(model) == 2 - len(left)
    assert norms(model) == [getattr(model, name) for name in left]


@pytest.mark.parametrize(
    ('kwargs', 'expected'),
    [(dict(affine=False), 2), (dict(track_running_stats=False), 0), (dict(eps=0.5), 2)],
)
def test_kinds_of_batchnorm(kwargs, expected):
    assert fold_net(Net(**kwargs)) == expected


@pytest.mark.parametrize(
    'conv',
    [
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, stride=2, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode='circular'),
    ],
)
def test_kinds_of_convolution(conv):
    model = Net()
    model.conv1 = conv

    assert fold_net(model) == 2


@pytest.mark.parametrize('norm', [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4)])
def test_other_norms_are_left_alone(norm):
    model = Net()
    model.bn1 = norm

    assert fold_net(model) == 1
    assert model.bn1 is norm


class Reads(Net):
    """A model that looks at its BatchNorm, which an identity cannot answer."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))[:, : self.bn1.num_features]
        return self.last(self.bn2(self.conv2(x)))


class ByKeyword(Net):
    """A model that passes keyword arguments."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(input=self.conv1(x))
        return self.last(self.bn2(self.conv2(input=x)))


class Standardised(nn.Conv2d):
    """A convolution that normalises its weights, so that scaling them has no effect."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight / self.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return self._conv_forward(x, weight, self.bias)


def test_a_model_that_reads_its_batchnorm_keeps_it():
    model = Reads()

    assert fold_net(model) == 1
    assert norms(model) == [model.bn1]


def test_keyword_arguments_do_no_harm():
    assert fold_net(ByKeyword()) in (1, 2)


def test_a_convolution_that_normalises_its_weights_is_left_alone():
    model = Net()
    model.conv1 = Standardised(4, 4, 3, padding=1)

    assert fold_net(model) == 1
    assert norms(model) == [model.bn1]


def test_a_module_of_two_names():
    model = Net('stem bn1 relu conv2 bn2')
    model.stem = model.conv1

    fold_net(model)  # checks the features


def test_a_model_without_pairs_is_run_once():
    calls = []

    folded = fold_batch_norm(nn.Sequential(nn.Conv2d(3, 4, 1)), lambda: calls.append(0) or [])

    assert (folded, calls) == (0, [0])


def test_features_that_are_no_numbers_prove_nothing():
    model = trained(Net())
    model.conv2.weight.data.fill_(float('nan'))
    inputs = images(channels=4, size=6)

    assert fold_batch_norm(model, lambda: [model(inputs)]) == 0
    assert len(norms(model)) == 2


def test_no_hook_stays_behind():
    model = trained(Net())
    inputs = images(channels=4, size=6)
    fold_batch_norm(model, lambda: [model(inputs), model.conv1(inputs)])

    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_weights_are_as_frozen_as_before():
    model = trained(Net()).requires_grad_(False)
    inputs = images(channels=4, size=6)

    assert fold_batch_norm(model, lambda: [model(inputs)]) == 2
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(module.training for module in model.modules() if [*module.parameters()])
