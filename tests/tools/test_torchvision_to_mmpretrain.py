"""The converter of torchvision's classifiers."""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torchvision
from mmengine.runner import load_checkpoint
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from tests.numbers import assert_close64

ROOT = Path(__file__).parents[2]


def load_tool() -> ModuleType:
    path = ROOT / 'tools' / 'model_converters' / 'torchvision_to_mmpretrain.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def torchvision_model(arch: str, num_classes: int = 7) -> nn.Module:
    """torchvision's own network, with random weights and statistics."""
    torch.manual_seed(0)
    with torch.device('meta'):  # Its own initialisation takes longer than all else.
        model = getattr(torchvision.models, arch)(weights=None, num_classes=num_classes)
    for name, tensor in model.to_empty(device='cpu').state_dict().items():
        if name.endswith('num_batches_tracked'):
            tensor.fill_(7)
        elif tensor.dim() > 1:
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5)
        elif name.endswith('bias') or 'mean' in name:
            tensor.normal_(std=0.1)
        else:
            tensor.uniform_(0.5, 1.0)
    return model.eval()


@pytest.fixture
def numbers_on_the_cpu(monkeypatch) -> None:
    """Let MMPretrain read numbers while it builds a network without memory."""
    monkeypatch.setattr(torch, 'linspace', partial(torch.linspace, device='cpu'))


@pytest.fixture(scope='module')
def resnet18() -> dict[str, Tensor]:
    return torchvision_model('resnet18').state_dict()


def save(obj: object, path: Path) -> str:
    torch.save(obj, path)
    return str(path)


def stock_classifier(backbone: dict, channels: int) -> ImageClassifier:
    """MMPretrain's classifier as its own configs write it."""
    head = dict(type='LinearClsHead', num_classes=7, in_channels=channels)
    neck = dict(type='GlobalAveragePooling')
    with torch.device('meta'):
        model = ImageClassifier(backbone=backbone, neck=neck, head=head)
    return model.to_empty(device='cpu').eval()


@pytest.mark.parametrize(
    ('arch', 'backbone', 'channels'),
    [
        ('resnet34', dict(type='ResNet', depth=34, style='pytorch'), 512),
        ('resnet50', dict(type='ResNet', depth=50, style='pytorch'), 2048),
        (
            'resnext50_32x4d',
            dict(type='ResNeXt', depth=50, groups=32, width_per_group=4, style='pytorch'),
            2048,
        ),
        (
            'wide_resnet50_2',
            dict(type='ResNet', depth=50, stem_channels=64, base_channels=128, expansion=2),
            2048,
        ),
        ('mobilenet_v2', dict(type='MobileNetV2', widen_factor=1.0), 1280),
    ],
)
@pytest.mark.usefixtures('numbers_on_the_cpu')
def test_the_stock_classifier_computes_what_torchvision_does(tmp_path, arch, backbone, channels):
    original = torchvision_model(arch)
    src, dst = save(original.state_dict(), tmp_path / 'src.pth'), tmp_path / 'new' / 'dst.pth'
    assert tool.main([src, str(dst), '--arch', arch]) == 0
    model = stock_classifier(backbone, channels)
    load_checkpoint(model, str(dst), map_location='cpu', strict=True)
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected, logits = original.double()(image), model.double()(image, mode='tensor')
    assert expected.std() > 1e-3  # Equality says something.
    assert_close64(logits, expected)


@pytest.mark.parametrize('arch', tool.ARCHS)
@pytest.mark.usefixtures('numbers_on_the_cpu')
def test_every_architecture_has_a_name_for_each_tensor(arch):
    with torch.device('meta'):
        original = getattr(torchvision.models, arch)(weights=None, num_classes=7).state_dict()
        converted = tool.build_classifier(arch, num_classes=7).state_dict()
    names = {tool.source_name(name, arch): tensor.shape for name, tensor in converted.items()}
    assert len(names) == len(converted)
    assert names == {name: tensor.shape for name, tensor in original.items()}


def test_summary_and_meta(tmp_path, resnet18, capsys):
    src, dst = save(resnet18, tmp_path / 'resnet18.pth'), tmp_path / 'dst.pth'
    assert tool.main([src, str(dst), '--arch', 'ResNet-18']) == 0
    meta = torch.load(dst, weights_only=True)['meta']
    assert (meta['arch'], meta['num_classes']) == ('resnet18', 7)
    assert meta['source'] == {'file': 'resnet18.pth'}
    parameters = sum(t.numel() for n, t in resnet18.items() if n.endswith(('weight', 'bias')))
    assert capsys.readouterr().out.splitlines() == [
        f'{src} -> {dst}',
        f'resnet18, 7 classes, {parameters:,} parameters',
        f'mapped all {len(resnet18)} tensors',
    ]


@pytest.mark.parametrize(
    'wrap',
    [
        lambda w: {'state_dict': {f'module.{n}': t for n, t in w.items()}, 'epoch': 3},
        lambda w: {n: t.numpy() for n, t in w.items()},
    ],
    ids=['data parallel', 'numpy'],
)
def test_layouts_of_the_file(tmp_path, resnet18, wrap):
    src, dst = save(wrap(resnet18), tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    assert tool.main([src, str(dst), '--arch', 'resnet18']) == 0
    state_dict = torch.load(dst, weights_only=True)['state_dict']
    assert torch.equal(state_dict['backbone.layer4.1.bn2.bias'], resnet18['layer4.1.bn2.bias'])
    assert torch.equal(state_dict['head.fc.weight'], resnet18['fc.weight'])


def test_missing_num_batches_tracked_is_said(tmp_path, resnet18, capsys):
    old = {n: t for n, t in resnet18.items() if not n.endswith('num_batches_tracked')}
    src, dst = save(old, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    assert tool.main([src, str(dst), '--arch', 'resnet18']) == 0
    missing = len(resnet18) - len(old)
    assert f'set {missing} missing num_batches_tracked to 0' in capsys.readouterr().out
    state_dict = torch.load(dst, weights_only=True)['state_dict']
    counts = [t for n, t in state_dict.items() if n.endswith('num_batches_tracked')]
    assert len(counts) == missing
    assert all(t.dtype == torch.long and t == 0 for t in counts)


def test_every_tensor_that_does_not_fit_is_named(tmp_path, resnet18, capsys):
    broken = dict(resnet18)
    del broken['layer1.0.bn1.running_var']
    broken['extra.weight'] = torch.ones(1)
    broken['conv1.weight'] = torch.ones(64, 1, 7, 7)
    broken['bn1.bias'] = 'text'
    src = save(broken, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'resnet18']) == 1
    assert sorted(capsys.readouterr().err.splitlines()) == [
        'error: missing: layer1.0.bn1.running_var is not in the file',
        'error: not a tensor: bn1.bias is of type str',
        'error: shape mismatch: conv1.weight is (64, 1, 7, 7), the network expects (64, 3, 7, 7)',
        'error: unexpected: extra.weight has no place in the network',
    ]
    assert os.listdir(tmp_path) == ['src.pth']


def test_another_architecture_is_suggested(tmp_path, resnet18, capsys):
    src = save(resnet18, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'resnet34']) == 1
    lines = capsys.readouterr().err.splitlines()
    assert 'error: missing: layer3.5.conv1.weight is not in the file' in lines
    assert lines[-1] == 'error: the tensors fit --arch resnet18'
    assert os.listdir(tmp_path) == ['src.pth']


def test_unknown_architecture(tmp_path, resnet18, capsys):
    src = save(resnet18, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'resnet35']) == 1
    error = capsys.readouterr().err
    assert error.startswith('error: --arch resnet35: unknown, did you mean')
    assert "'resnet34'" in error


class RunsCode:
    """An object whose unpickling makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_code_in_the_file_is_not_run(tmp_path, resnet18, capsys):
    src = save({'state_dict': resnet18, 'opt': RunsCode(tmp_path / 'trace')}, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'resnet18']) == 1
    assert "refused, since reading it could run code: it refers to '" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ['src.pth']


def test_an_existing_file_is_kept_unless_forced(tmp_path, resnet18, capsys):
    src, dst = save(resnet18, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    dst.write_text('precious')
    arguments = [src, str(dst), '--arch', 'resnet18']
    assert tool.main(arguments) == 1
    assert capsys.readouterr().err == f'error: {dst}: exists already, --force overwrites it\n'
    assert dst.read_text() == 'precious'
    assert tool.main([*arguments, '--force']) == 0
    assert 'state_dict' in torch.load(dst, weights_only=True)


def test_help_says_how_images_are_normalised(capsys):
    with pytest.raises(SystemExit):
        tool.main(['--help'])
    text = ' '.join(capsys.readouterr().out.split())
    for numbers in ('123.675, 116.28, 103.53', '58.395, 57.12, 57.375', 'RGB'):
        assert numbers in text
