"""Convert a classifier's weights of torchvision to MMPretrain's format.

The result loads strictly into MMPretrain's stock ImageClassifier: the backbone, a
GlobalAveragePooling neck and a LinearClsHead. No code in the file is run. Every tensor has to fit,
or nothing is written.

Example:
    python tools/model_converters/torchvision_to_mmpretrain.py resnet34-b627a593.pth \\
        checkpoints/resnet34_imagenet.pth --arch resnet34
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmengine
import torch
import torchvision
from mmengine.model import BaseModel
from torch import Tensor

# A checkout converts with its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
# Beside this file, wherever it is started or loaded from.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from converting import (
    ConversionError,
    as_tensors,
    check_destination,
    find_state_dict,
    load_checkpoint,
    match_arch,
    misfits,
    mobilenet_v2_place,
    run_converter,
    save_checkpoint,
    stated_facts,
)

import reviewkd_mm
from reviewkd_mm.registry import MODELS

# MMPretrain's backbones that are torchvision's networks, operation by operation. Style 'pytorch',
# the stride in a block's 3x3 convolution, is torchvision's.
RESNET = {'type': 'mmpretrain.ResNet', 'style': 'pytorch'}
RESNEXT = {'type': 'mmpretrain.ResNeXt', 'style': 'pytorch'}
WIDE = {**RESNET, 'stem_channels': 64, 'base_channels': 128, 'expansion': 2}
ARCHS: dict[str, dict[str, Any]] = {
    **{f'resnet{depth}': {**RESNET, 'depth': depth} for depth in (18, 34, 50, 101, 152)},
    'resnext50_32x4d': {**RESNEXT, 'depth': 50, 'groups': 32, 'width_per_group': 4},
    'resnext101_32x8d': {**RESNEXT, 'depth': 101, 'groups': 32, 'width_per_group': 8},
    'resnext101_64x4d': {**RESNEXT, 'depth': 101, 'groups': 64, 'width_per_group': 4},
    'wide_resnet50_2': {**WIDE, 'depth': 50},
    'wide_resnet101_2': {**WIDE, 'depth': 101},
    'mobilenet_v2': {'type': 'mmpretrain.MobileNetV2'},
}
HEAD_CHANNELS = {'resnet18': 512, 'resnet34': 512, 'mobilenet_v2': 1280}
IMAGENET_CLASSES = 1000

EPILOG = f"""\
architectures: {', '.join(ARCHS)}

The file does not say how its images were normalised. torchvision trained with mean 123.675,
116.28, 103.53 and std 58.395, 57.12, 57.375 of the [0, 255] image in RGB, which is what the
data_preprocessor of MMPretrain's ImageNet configs does. MMPretrain's own checkpoints of these
networks are other models, trained anew, with other accuracies."""


def build_classifier(arch: str, num_classes: int = IMAGENET_CLASSES) -> BaseModel:
    """Build the MMPretrain classifier of an architecture.

    Args:
        arch (str): A key of ``ARCHS``.
        num_classes (int): Number of classes. Defaults to 1000.

    Returns:
        BaseModel: An ImageClassifier.
    """
    channels = HEAD_CHANNELS.get(arch, 2048)
    head = {'type': 'LinearClsHead', 'num_classes': num_classes, 'in_channels': channels}
    neck = {'type': 'GlobalAveragePooling'}
    classifier = {'type': 'mmpretrain.ImageClassifier', 'neck': neck, 'head': head}
    return MODELS.build({**classifier, 'backbone': ARCHS[arch]})


def torchvision_tensors(arch: str, num_classes: int) -> dict[str, Tensor]:
    """Return the tensors of torchvision's own network, with names and shapes but no memory.

    Args:
        arch (str): A key of ``ARCHS``.
        num_classes (int): Number of classes.
    """
    with torch.device('meta'):
        return torchvision.models.get_model(arch, num_classes=num_classes).state_dict()


def source_name(name: str, arch: str) -> str:
    """Return torchvision's name of a tensor of an MMPretrain classifier.

    Args:
        name (str): Such as ``'backbone.layer1.0.bn1.weight'``.
        arch (str): A key of ``ARCHS``.

    Returns:
        str: Such as ``'layer1.0.bn1.weight'``.
    """
    if arch == 'mobilenet_v2':
        return _mobilenet_v2_name(name)
    return name.removeprefix('backbone.').removeprefix('head.')


def convert(state_dict: Mapping[str, Any], arch: str) -> dict[str, Tensor]:
    """Convert a state dict to that of an MMPretrain ImageClassifier.

    Args:
        state_dict (Mapping[str, Any]): Tensors by torchvision's names, all of them with a
            ``module.`` in front or none. ``num_batches_tracked``, which old files lack, are set
            to 0.
        arch (str): Architecture, see ``ARCHS``. The number of classes is that of the file.

    Returns:
        dict[str, Tensor]: Tensors by MMPretrain's names, the same numbers bit for bit.

    Raises:
        ConversionError: If tensors are missing, have no place or another shape: all of them.
    """
    arch = match_arch(arch, ARCHS)
    source = _plain_names(state_dict)
    num_classes = _num_classes(source)
    problems = misfits(source, torchvision_tensors(arch, num_classes))
    if problems:
        raise ConversionError('\n'.join([*problems, *_better_archs(source)]))
    model = build_classifier(arch, num_classes)
    # Only num_batches_tracked may be missing here.
    converted = {
        name: source.get(source_name(name, arch), torch.zeros_like(tensor)).detach().cpu().clone()
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(converted, strict=True)
    return converted


def convert_file(src: str | Path, dst: str | Path, arch: str, force: bool = False) -> str:
    """Convert a file.

    Args:
        src (str | Path): The weights to read.
        dst (str | Path): The MMEngine checkpoint to write.
        arch (str): Architecture, see ``ARCHS``.
        force (bool): Whether ``dst`` may be overwritten. Defaults to False.

    Returns:
        str: What was done, in lines.

    Raises:
        ConversionError: If it cannot be done; nothing is written then.
    """
    arch = match_arch(arch, ARCHS)
    checkpoint = load_checkpoint(src)
    check_destination(Path(src), Path(dst), force)
    source = find_state_dict(checkpoint)
    state_dict = convert(source, arch)
    num_classes = len(state_dict['head.fc.weight'])
    facts = stated_facts(checkpoint)
    meta = {
        'arch': arch,
        'num_classes': num_classes,
        'source': {'file': Path(src).name, **facts},
        'reviewkd_mm_version': reviewkd_mm.__version__,
        'mmengine_version': mmengine.__version__,
    }
    save_checkpoint({'meta': meta, 'state_dict': state_dict}, dst)

    learned = ('weight', 'bias')
    parameters = sum(t.numel() for name, t in state_dict.items() if name.endswith(learned))
    lines = [
        f'{src} -> {dst}',
        f'{arch}, {num_classes} classes, {parameters:,} parameters',
        f'mapped all {len(source)} tensors',
    ]
    added = len(state_dict) - len(source)
    if added:
        lines.append(f'set {added} missing num_batches_tracked to 0')
    if facts:
        lines.append('the file states: ' + ', '.join(f'{n} {v:g}' for n, v in facts.items()))
    return '\n'.join(lines)


def _plain_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Undo what data-parallel wrappers add to the names of a network."""
    source = as_tensors(state_dict)
    if not all(name.startswith('module.') for name in source):
        return source
    return {name.removeprefix('module.'): value for name, value in source.items()}


def _mobilenet_v2_name(name: str) -> str:
    """Map 'backbone.layer2.0.conv.1.bn.bias' to 'features.2.conv.1.1.bias', and so on."""
    module, _, leaf = name.removeprefix('backbone.').rpartition('.')
    if module == 'head.fc':
        return f'classifier.1.{leaf}'
    place, _, part = module.rpartition('.')
    is_norm = int(part == 'bn')
    if place in ('conv1', 'conv2'):
        return f'features.{0 if place == "conv1" else 18}.{is_norm}.{leaf}'
    block, _, conv = place.partition('.conv.')
    # The first block alone has two convolutions. The last of a block lies beside its norm, the
    # others in a module with it.
    is_last = conv == ('1' if block == 'layer1.0' else '2')
    inner = int(conv) + is_norm if is_last else f'{conv}.{is_norm}'
    return f'features.{mobilenet_v2_place(block)}.conv.{inner}.{leaf}'


def _num_classes(source: Mapping[str, Any]) -> int:
    weight = source.get('fc.weight', source.get('classifier.1.weight'))
    # Without a usable one any number will do: the missing or misshapen tensor is reported.
    usable = isinstance(weight, Tensor) and weight.ndim and len(weight)
    return len(weight) if usable else IMAGENET_CLASSES


def _better_archs(source: Mapping[str, Any]) -> list[str]:
    """Name the architecture that a state dict fits, if there is one."""
    classes = _num_classes(source)
    fitting = [name for name in ARCHS if not misfits(source, torchvision_tensors(name, classes))]
    return [f'the tensors fit --arch {name}' for name in fitting]


def main(argv: list[str] | None = None) -> int:
    """Convert the file that the command line names.

    Args:
        argv (list[str], optional): Arguments. Defaults to None: those of the process.

    Returns:
        int: 0, or 1 if it could not be converted.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help="torchvision's weights, such as resnet34-b627a593.pth")
    parser.add_argument('dst', help='MMEngine checkpoint to write')
    parser.add_argument('--arch', required=True, help='architecture, see below')
    parser.add_argument('--force', action='store_true', help='overwrite an existing dst')
    args = parser.parse_args(argv)
    return run_converter(lambda: convert_file(args.src, args.dst, args.arch, args.force))


if __name__ == '__main__':
    sys.exit(main())
