"""The converter of RepDistiller, mdistiller and ReviewKD checkpoints."""

from __future__ import annotations

import argparse
import importlib.util
import os
import pickle
import zipfile
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.runner import load_checkpoint
from torch import Tensor

# Registers the backbones that the converter builds by name.
import reviewkd_mm.models.backbones  # noqa: F401
from tests.models.backbones.textbook import (
    NETWORKS,
    count_parameters,
    random_weights,
    resnet,
    wide_resnet,
)
from tests.numbers import assert_close64

ROOT = Path(__file__).parents[2]
TEACHER = ROOT.parent / 'shared' / 'teachers' / 'resnet56_cifar100.pth'
CIFAR100_TEST = ROOT.parent / 'shared' / 'data' / 'cifar-100-python' / 'test'


def load_tool() -> ModuleType:
    path = ROOT / 'tools' / 'model_converters' / 'repdistiller_to_mmpretrain.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def repdistiller_state_dict(arch: str, num_classes: int = 10) -> dict[str, Tensor]:
    """A network with random weights and statistics, by RepDistiller's names."""
    generator = torch.Generator().manual_seed(0)
    model = tool.build_classifier(arch, num_classes)
    names = {
        n.replace('backbone.', '').replace('head.', ''): t for n, t in model.state_dict().items()
    }
    for name, tensor in names.items():
        if name.endswith('num_batches_tracked'):
            tensor.fill_(7)
        elif tensor.ndim > 1:
            std = (2 / tensor[0].numel()) ** 0.5
            tensor.normal_(0, std, generator=generator)
        else:
            tensor.uniform_(0.5, 1.5, generator=generator)
    return names


def file_weights(arch: str) -> dict[str, Tensor]:
    return random_weights(arch) if arch in NETWORKS else repdistiller_state_dict(arch)


@pytest.fixture(scope='module')
def resnet8() -> dict[str, Tensor]:
    return repdistiller_state_dict('resnet8')


def save(obj: object, path: Path) -> str:
    torch.save(obj, path)
    return str(path)


@pytest.mark.parametrize(
    ('arch', 'forward'),
    [
        ('resnet20', partial(resnet, blocks=3)),
        ('resnet8x4', partial(resnet, blocks=1)),
        ('wrn_16_1', partial(wide_resnet, blocks=2)),
        ('wrn_16_2', partial(wide_resnet, blocks=2)),
        *((arch, network.forward) for arch, network in NETWORKS.items()),
    ],
)
def test_the_converted_classifier_is_the_network_of_the_file(tmp_path, arch, forward):
    weights = {n: t.double() for n, t in file_weights(arch).items()}
    src, dst = save({'model': weights}, tmp_path / 'src.pth'), tmp_path / 'new' / 'dst.pth'
    assert tool.main([src, str(dst), '--arch', arch]) == 0
    model = tool.build_classifier(arch, num_classes=10).double().eval()
    load_checkpoint(model, str(dst), map_location='cpu', strict=True)
    images = torch.randn(1, 3, 24, 24, dtype=torch.float64)
    expected = forward(images, weights).logits
    assert_close64(model(images, mode='tensor'), expected)


@pytest.mark.parametrize('arch', NETWORKS)
def test_parameter_count(arch):
    model = tool.build_classifier(arch, num_classes=100)
    count = sum(p.numel() for p in model.parameters())
    assert count == count_parameters(arch, 100)


def test_parameter_count_of_resnet50():
    assert count_parameters('resnet50', 100) == 23_705_252


def test_convert_keeps_every_number(resnet8):
    converted = tool.convert(resnet8, 'resnet8')
    assert len(converted) == len(resnet8)
    for name, tensor in resnet8.items():
        prefix = 'head' if name.startswith('fc.') else 'backbone'
        assert torch.equal(converted[f'{prefix}.{name}'], tensor)


@pytest.mark.parametrize(
    ('arch', 'name', 'place'),
    [
        ('vgg8', 'classifier.bias', 'head.fc.bias'),
        ('vgg8', 'block0.0.bias', 'backbone.block0.0.bias'),
        ('mobilenetv2', 'classifier.0.weight', 'head.fc.weight'),
        ('shufflenetv2', 'linear.weight', 'head.fc.weight'),
        ('shufflenetv1', 'layer3.0.bn3.weight', 'backbone.layer3.0.bn3.weight'),
        ('resnet50', 'layer2.0.shortcut.0.weight', 'backbone.layer2.0.downsample.0.weight'),
        ('mobilenetv1', 'fc.weight', 'head.fc.weight'),
    ],
)
def test_places_of_tensors(arch, name, place):
    weights = random_weights(arch)
    assert torch.equal(tool.convert(weights, arch)[place], weights[name])


@pytest.mark.parametrize('arch', tool.ARCHS)
def test_every_architecture_converts_and_fits_no_other(arch):
    weights = file_weights(arch)
    assert len(tool.convert(weights, arch)) == len(weights)
    assert tool._better_archs(weights) == [f'the tensors fit --arch {arch}']


@pytest.mark.parametrize(
    ('text', 'arch'),
    [
        ('resnet56', 'resnet56'),
        ('ResNet-32x4', 'resnet32x4'),
        ('wrn_40_2', 'wrn_40_2'),
        ('wrn-40-2', 'wrn_40_2'),
        ('WRN40-2', 'wrn_40_2'),
        ('ResNet50', 'resnet50'),
        ('MobileNetV2', 'mobilenetv2'),
        ('mobile_half', 'mobilenetv2'),
        ('ShuffleV1', 'shufflenetv1'),
        ('ShuffleNet-V2', 'shufflenetv2'),
        ('vgg13_bn', 'vgg13'),
    ],
)
def test_spellings(text, arch):
    assert tool.parse_arch(text) == arch


def test_unknown_architecture(tmp_path, resnet8, capsys):
    src = save(resnet8, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'resnet57']) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --arch resnet57: unknown, did you mean 'resnet")
    assert "'resnet56'" in error


@pytest.mark.parametrize(
    'wrap',
    [
        lambda w: w,
        lambda w: {'model': w, 'epoch': 3},
        lambda w: {'state_dict': w, 'optimizer': {'state': {}}},
        lambda w: {'model': {f'module.{n}': t for n, t in w.items()}},
        lambda w: {'model': {n: torch.nn.Parameter(t) if t.ndim > 1 else t for n, t in w.items()}},
    ],
    ids=['bare', 'model', 'state_dict', 'data parallel', 'parameters'],
)
def test_layouts_of_the_file(tmp_path, resnet8, wrap):
    src, dst = save(wrap(resnet8), tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    assert tool.main([src, str(dst), '--arch', 'resnet8']) == 0
    state_dict = torch.load(dst, weights_only=True)['state_dict']
    assert torch.equal(state_dict['backbone.layer3.0.bn2.bias'], resnet8['layer3.0.bn2.bias'])
    assert not any(t.requires_grad for t in state_dict.values())


def test_the_student_of_a_whole_distiller(tmp_path, resnet8, capsys):
    distiller = {f'module.student.{n}': t for n, t in resnet8.items()}
    distiller |= {f'module.teacher.{n}': t + 1 for n, t in resnet8.items()}
    distiller['module.abfs.0.conv1.0.weight'] = torch.ones(2, 2, 1, 1)
    src, dst = save({'model': distiller}, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    assert tool.main([src, str(dst), '--arch', 'resnet8']) == 0
    state_dict = torch.load(dst, weights_only=True)['state_dict']
    assert torch.equal(state_dict['head.fc.bias'], resnet8['fc.bias'])
    assert (
        f'left out: teacher ({len(resnet8)} tensors), abfs (1 tensors)' in capsys.readouterr().out
    )


def test_summary_and_meta(tmp_path, resnet8, capsys):
    accuracy = torch.tensor([61.25])
    src = save({'model': resnet8, 'best_acc': accuracy, 'epoch': 240}, tmp_path / 'src.pth')
    dst = tmp_path / 'dst.pth'
    assert tool.main([src, str(dst), '--arch', 'resnet-8']) == 0
    meta = torch.load(dst, weights_only=True)['meta']
    assert (meta['arch'], meta['num_classes']) == ('resnet8', 10)
    assert meta['source'] == {'file': 'src.pth', 'accuracy': 61.25, 'epoch': 240}
    parameters = sum(t.numel() for n, t in resnet8.items() if n.endswith(('weight', 'bias')))
    assert capsys.readouterr().out.splitlines() == [
        f'{src} -> {dst}',
        f'resnet8, 10 classes, {parameters:,} parameters',
        f'mapped all {len(resnet8)} tensors',
        'the file states: accuracy 61.25, epoch 240',
    ]


def test_missing_num_batches_tracked_is_said(tmp_path, resnet8, capsys):
    old = {n: t for n, t in resnet8.items() if not n.endswith('num_batches_tracked')}
    src, dst = save(old, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    assert tool.main([src, str(dst), '--arch', 'resnet8']) == 0
    missing = len(resnet8) - len(old)
    assert f'set {missing} missing num_batches_tracked to 0' in capsys.readouterr().out
    load_checkpoint(tool.build_classifier('resnet8', 10), str(dst), strict=True)


def test_every_tensor_that_does_not_fit_is_named(tmp_path, resnet8, capsys):
    broken = dict(resnet8)
    del broken['layer1.0.bn1.running_var']
    broken['extra.weight'] = torch.ones(1)
    broken['conv1.weight'] = torch.ones(16, 1, 3, 3)
    broken['bn1.bias'] = 'text'
    src = save({'model': broken}, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'resnet8']) == 1
    assert sorted(capsys.readouterr().err.splitlines()) == [
        'error: missing: layer1.0.bn1.running_var is not in the file',
        'error: not a tensor: bn1.bias is of type str',
        'error: shape mismatch: conv1.weight is (16, 1, 3, 3), the network expects (16, 3, 3, 3)',
        'error: unexpected: extra.weight has no place in the network',
    ]
    assert os.listdir(tmp_path) == ['src.pth']


def test_another_architecture_is_suggested(tmp_path, resnet8, capsys):
    src = save(resnet8, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'resnet14']) == 1
    lines = capsys.readouterr().err.splitlines()
    assert 'error: missing: layer3.1.conv1.weight is not in the file' in lines
    assert lines[-1] == 'error: the tensors fit --arch resnet8'


def test_problems_name_the_tensors_as_the_file_does(tmp_path, capsys):
    broken = random_weights('mobilenetv2')
    broken['classifier.0.weight'] = torch.ones(10, 640)
    del broken['classifier.0.bias']
    src = save({'model': broken}, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'mobilenetv2']) == 1
    assert capsys.readouterr().err.splitlines() == [
        'error: shape mismatch: classifier.0.weight is (10, 640), the network expects (10, 1280)',
        'error: missing: classifier.0.bias is not in the file',
    ]


def test_another_network_is_suggested(tmp_path, capsys):
    src = save({'model': random_weights('shufflenetv2')}, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'shufflev1']) == 1
    lines = capsys.readouterr().err.splitlines()
    assert 'error: unexpected: layer1.0.conv5.weight has no place in the network' in lines
    assert lines[-1] == 'error: the tensors fit --arch shufflenetv2'


def test_a_file_without_fc(resnet8):
    weights = {n: t for n, t in resnet8.items() if not n.startswith('fc.')}
    with pytest.raises(tool.ConversionError, match=r'missing: fc\.weight is not in the file'):
        tool.convert(weights, 'resnet8')


def test_numpy_numbers_and_options_are_read(tmp_path, resnet8):
    checkpoint = {
        'opt': argparse.Namespace(lr=0.05),
        'model': resnet8,
        'accuracy': np.float64(70.5),
        'loss': np.float32(1.5),
        'epoch': np.int64(240),
    }
    facts = tool.stated_facts(tool.load_checkpoint(save(checkpoint, tmp_path / 'src.pth')))
    assert facts == {'accuracy': 70.5, 'epoch': 240}


@pytest.mark.parametrize('module', [b'numpy.core.multiarray', b'numpy._core.multiarray'])
def test_numpy_numbers_of_either_numpy_are_read(tmp_path, module):
    """NumPy 2 moved the function that its pickled numbers refer to."""
    src = Path(save({'accuracy': np.float64(70.5)}, tmp_path / 'src.pth'))
    moved = tmp_path / 'moved.pth'
    with zipfile.ZipFile(src) as old, zipfile.ZipFile(moved, 'w') as new:
        for entry in old.namelist():
            data = old.read(entry)
            for name in (b'numpy._core.multiarray', b'numpy.core.multiarray'):
                data = data.replace(b'c' + name + b'\n', b'c' + module + b'\n')
            new.writestr(entry, data)
    assert b'c' + module + b'\n' in zipfile.ZipFile(moved).read('src/data.pkl')
    assert tool.load_checkpoint(moved) == {'accuracy': 70.5}


class RunsCode:
    """An object whose unpickling makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_code_in_the_file_is_not_run(tmp_path, resnet8, capsys):
    trace = tmp_path / 'trace'
    src = save({'model': resnet8, 'opt': RunsCode(trace)}, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'resnet8']) == 1
    error = capsys.readouterr().err
    assert "refused, since reading it could run code: it refers to '" in error
    assert "mkdir', but only tensors" in error
    assert len(error.splitlines()) == 1
    assert os.listdir(tmp_path) == ['src.pth']


@pytest.mark.parametrize('content', [b'', b'<html>not found</html>', pickle.dumps({'model': 1})])
def test_a_file_that_is_no_checkpoint(tmp_path, content, capsys):
    src = tmp_path / 'src.pth'
    src.write_bytes(content)
    assert tool.main([str(src), str(tmp_path / 'dst.pth'), '--arch', 'resnet8']) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'error: {src}: damaged, or not written by torch.save')
    assert len(error.splitlines()) == 1


def test_a_truncated_file(tmp_path, resnet8, capsys):
    src = Path(save(resnet8, tmp_path / 'src.pth'))
    src.write_bytes(src.read_bytes()[:-1000])
    assert tool.main([str(src), str(tmp_path / 'dst.pth'), '--arch', 'resnet8']) == 1
    assert 'damaged' in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path, capsys):
    src = tmp_path / 'src.pth'
    assert tool.main([str(src), str(tmp_path / 'dst.pth'), '--arch', 'resnet8']) == 1
    assert capsys.readouterr().err == f'error: {src}: no such file\n'


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'weights': 1, 'epoch': torch.tensor(3)}, "found 'weights', 'epoch'"),
        ([1, 2], 'an object of type list'),
    ],
)
def test_a_file_without_a_state_dict(tmp_path, content, message, capsys):
    src = save(content, tmp_path / 'src.pth')
    assert tool.main([src, str(tmp_path / 'dst.pth'), '--arch', 'resnet8']) == 1
    assert message in capsys.readouterr().err


def test_an_existing_file_is_kept_unless_forced(tmp_path, resnet8, capsys):
    src, dst = save(resnet8, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    dst.write_text('precious')
    arguments = [src, str(dst), '--arch', 'resnet8']
    assert tool.main(arguments) == 1
    assert capsys.readouterr().err == f'error: {dst}: exists already, --force overwrites it\n'
    assert dst.read_text() == 'precious'
    assert tool.main([*arguments, '--force']) == 0
    assert 'state_dict' in torch.load(dst, weights_only=True)


def test_the_source_is_never_overwritten(tmp_path, resnet8, capsys):
    src = save(resnet8, tmp_path / 'src.pth')
    assert tool.main([src, src, '--arch', 'resnet8', '--force']) == 1
    assert 'is the file to convert' in capsys.readouterr().err
    assert set(torch.load(src, weights_only=True)) == set(resnet8)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, resnet8, monkeypatch):
    src, dst = save(resnet8, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    dst.write_text('old')

    def fail_halfway(_: object, path: Path) -> None:
        Path(path).write_text('half')
        raise OSError('no space left on the device')

    monkeypatch.setattr(tool.torch, 'save', fail_halfway)
    assert tool.main([src, str(dst), '--arch', 'resnet8', '--force']) == 1
    assert dst.read_text() == 'old'
    assert sorted(os.listdir(tmp_path)) == ['dst.pth', 'src.pth']


@pytest.mark.skipif(not TEACHER.is_file(), reason=f'{TEACHER} is not there')
def test_a_trained_teacher(tmp_path):
    dst = tmp_path / 'dst.pth'
    assert tool.main([str(TEACHER), str(dst), '--arch', 'resnet56']) == 0
    model = tool.build_classifier('resnet56', 100).eval()
    checkpoint = load_checkpoint(model, str(dst), map_location='cpu', strict=True)
    assert checkpoint['meta']['source']['accuracy'] > 60
    if not CIFAR100_TEST.is_file():
        pytest.skip(f'{CIFAR100_TEST} is not there')
    with CIFAR100_TEST.open('rb') as file:
        data = pickle.load(file, encoding='latin1')
    images = torch.from_numpy(data['data'][:500]).view(-1, 3, 32, 32).float()
    mean, std = torch.tensor([[125.3, 123.0, 113.9], [63.0, 62.1, 66.7]]).view(2, 1, 3, 1, 1)
    with torch.no_grad():
        predicted = model((images - mean) / std, mode='tensor').argmax(1)
    accuracy = (predicted == torch.tensor(data['fine_labels'][:500])).float().mean()
    assert accuracy > 0.6
