"""Convert a checkpoint of RepDistiller, mdistiller or ReviewKD to MMPretrain's format.

The result loads strictly into an ImageClassifier with a backbone of this project (MMPretrain's
ResNet_CIFAR for resnet50), a GlobalAveragePooling neck and a LinearClsHead. No code in the file is
run. Every tensor has to fit, or nothing is written.

Example:
    python tools/model_converters/repdistiller_to_mmpretrain.py ckpt_epoch_240.pth \\
        checkpoints/resnet56_cifar100.pth --arch resnet56
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mmengine
import torch
from mmengine.model import BaseModel
from torch import Tensor

# A checkout converts with its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
# Beside this file, wherever it is started or loaded from.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from converting import (
    ConversionError,
    check_destination,
    find_state_dict,
    load_checkpoint,
    match_arch,
    misfits,
    run_converter,
    save_checkpoint,
    stated_facts,
)

import reviewkd_mm
from reviewkd_mm.registry import MODELS


class Arch(NamedTuple):
    """What a network is here, and how its files differ from the usual names.

    Attributes:
        backbone (dict[str, Any]): Config of the backbone.
        channels (int): Channels of the pooled feature.
        classifier (str): Name of the classifier in the files.
        shortcut (str): Name of the convolutional shortcuts in the files.
    """

    backbone: dict[str, Any]
    channels: int
    classifier: str = 'fc'
    shortcut: str = 'downsample'


RESNET = {'type': 'reviewkd_mm.CIFARResNet'}
WRN = {'type': 'reviewkd_mm.CIFARWideResNet'}
VGG = {'type': 'reviewkd_mm.CIFARVGG'}
X4 = {'base_channels': (32, 64, 128, 256)}
RESNET50 = {'type': 'mmpretrain.ResNet_CIFAR', 'depth': 50}
ARCHS: dict[str, Arch] = {
    **{f'resnet{d}': Arch({**RESNET, 'depth': d}, 64) for d in (8, 14, 20, 32, 44, 56, 110)},
    **{f'resnet{d}x4': Arch({**RESNET, 'depth': d, **X4}, 256) for d in (8, 32)},
    'resnet50': Arch(RESNET50, 2048, 'linear', 'shortcut'),
    **{
        f'wrn_{d}_{w}': Arch({**WRN, 'depth': d, 'widen_factor': w}, 64 * w)
        for d in (16, 40)
        for w in (1, 2)
    },
    **{f'vgg{d}': Arch({**VGG, 'depth': d}, 512, 'classifier') for d in (8, 11, 13)},
    'mobilenetv1': Arch({'type': 'reviewkd_mm.MobileNetV1'}, 1024),
    'mobilenetv2': Arch({'type': 'reviewkd_mm.CIFARMobileNetV2'}, 1280, 'classifier.0'),
    'shufflenetv1': Arch({'type': 'reviewkd_mm.CIFARShuffleNetV1'}, 960, 'linear'),
    'shufflenetv2': Arch({'type': 'reviewkd_mm.CIFARShuffleNetV2'}, 1024, 'linear'),
}
# What the files' own code calls them.
ALIASES = {
    **{f'vgg{d}_bn': f'vgg{d}' for d in (8, 11, 13)},
    'mobile_half': 'mobilenetv2',
    'ShuffleV1': 'shufflenetv1',
    'ShuffleV2': 'shufflenetv2',
}

EPILOG = f"""\
{textwrap.fill('architectures: ' + ', '.join(ARCHS), 95)}

mobilenetv1 is that of ReviewKD for ImageNet, the others are for CIFAR.

A CIFAR file does not say how its images were normalised. RepDistiller and mdistiller trained with
mean 0.5071, 0.4867, 0.4408 and std 0.2675, 0.2565, 0.2761 of the [0, 1] image, the authors of
ReviewKD with mean 125.3, 123.0, 113.9 and std 63.0, 62.1, 66.7 of the [0, 255] image: give the
right ones to the data_preprocessor of the converted model."""


def parse_arch(text: str) -> str:
    """Return the architecture that a name means, whatever its case and separators.

    Args:
        text (str): Such as ``'resnet56'``, ``'wrn_40_2'``, ``'WRN-40-2'``, ``'wrn40-2'``,
            ``'MobileNetV2'``, or a name in ``ALIASES``.

    Returns:
        str: A key of ``ARCHS``.

    Raises:
        ConversionError: If there is no such architecture, with the nearest ones.
    """
    name = match_arch(text, [*ARCHS, *ALIASES])
    return ALIASES.get(name, name)


def build_classifier(arch: str, num_classes: int) -> BaseModel:
    """Build the MMPretrain classifier of an architecture.

    Args:
        arch (str): A key of ``ARCHS``.
        num_classes (int): Number of classes.

    Returns:
        BaseModel: An ImageClassifier.
    """
    backbone, channels, *_ = ARCHS[arch]
    head = {'type': 'LinearClsHead', 'num_classes': num_classes, 'in_channels': channels}
    neck = {'type': 'GlobalAveragePooling'}
    classifier = {'type': 'mmpretrain.ImageClassifier', 'neck': neck, 'head': head}
    return MODELS.build({**classifier, 'backbone': backbone})


def plain_names(state_dict: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Undo what data-parallel wrappers and distillers add to the names of a network.

    A ``module.`` in front of every name is removed. Where there are ``student.`` names, as in
    the checkpoint of a whole distiller, the student alone is kept.

    Args:
        state_dict (Mapping[str, Any]): Tensors by name.

    Returns:
        tuple[dict[str, Any], list[str]]: Tensors by plain name, and what was done, in words.
    """
    names, notes = dict(state_dict), []
    if all(name.startswith('module.') for name in names):
        names = {name.removeprefix('module.'): value for name, value in names.items()}
        notes.append("removed the prefix 'module.'")
    student = {n.removeprefix('student.'): v for n, v in names.items() if n.startswith('student.')}
    if not student:
        return names, notes
    others = Counter(name.split('.')[0] for name in names if not name.startswith('student.'))
    left_out = ', '.join(f'{name} ({count} tensors)' for name, count in others.items())
    notes.append(f"kept the distiller's student, left out: {left_out or 'nothing'}")
    return student, notes


def convert(state_dict: Mapping[str, Any], arch: str) -> dict[str, Tensor]:
    """Convert a state dict to that of an MMPretrain ImageClassifier.

    Args:
        state_dict (Mapping[str, Any]): Tensors by RepDistiller's names; see ``plain_names`` for
            the prefixes that they may have. ``num_batches_tracked``, which old files lack, are
            set to 0.
        arch (str): Architecture, see ``parse_arch``. The number of classes is that of
            the classifier.

    Returns:
        dict[str, Tensor]: Tensors by MMPretrain's names, the same numbers bit for bit.

    Raises:
        ConversionError: If tensors are missing, have no place or another shape: all of them.
    """
    arch = parse_arch(arch)
    source, _ = plain_names(state_dict)
    model = build_classifier(arch, _num_classes(source, arch))
    problems = _problems(source, model, arch)
    if problems:
        raise ConversionError('\n'.join([*problems, *_better_archs(source)]))
    converted = {
        name: source.get(_source_name(name, arch), torch.zeros_like(tensor)).detach().cpu().clone()
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(converted, strict=True)
    return converted


def convert_file(src: str | Path, dst: str | Path, arch: str, force: bool = False) -> str:
    """Convert a file.

    Args:
        src (str | Path): The checkpoint to read.
        dst (str | Path): The MMEngine checkpoint to write.
        arch (str): Architecture, see ``parse_arch``.
        force (bool): Whether ``dst`` may be overwritten. Defaults to False.

    Returns:
        str: What was done, in lines.

    Raises:
        ConversionError: If it cannot be done; nothing is written then.
    """
    arch = parse_arch(arch)
    checkpoint = load_checkpoint(src)
    check_destination(Path(src), Path(dst), force)
    source, notes = plain_names(find_state_dict(checkpoint))
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

    added = len(state_dict) - len(source)
    if added:
        notes.append(f'set {added} missing num_batches_tracked to 0')
    learned = ('weight', 'bias')
    parameters = sum(t.numel() for name, t in state_dict.items() if name.endswith(learned))
    stated = ', '.join(f'{name} {value:g}' for name, value in facts.items())
    lines = [
        f'{src} -> {dst}',
        f'{arch}, {num_classes} classes, {parameters:,} parameters',
        f'mapped all {len(source)} tensors',
        *notes,
        f'the file states: {stated or "neither accuracy nor epoch"}',
    ]
    return '\n'.join(lines)


def _source_name(name: str, arch: str) -> str:
    """Return the name in the files of a tensor of the classifier."""
    if name.startswith('head.fc.'):
        return name.replace('head.fc', ARCHS[arch].classifier)
    return name.removeprefix('backbone.').replace('.downsample.', f'.{ARCHS[arch].shortcut}.')


def _num_classes(source: Mapping[str, Any], arch: str) -> int:
    weight = source.get(_source_name('head.fc.weight', arch))
    # Without a usable classifier any number will do: the missing or misshapen one is reported.
    return len(weight) if isinstance(weight, Tensor) and weight.ndim and len(weight) else 100


def _problems(source: Mapping[str, Any], model: BaseModel, arch: str) -> list[str]:
    """Return what keeps the tensors of a file from becoming those of the classifier."""
    expected = {_source_name(name, arch): tensor for name, tensor in model.state_dict().items()}
    return misfits(source, expected)


def _better_archs(source: Mapping[str, Any]) -> list[str]:
    """Name the architecture that a state dict fits, if there is one."""
    fitting = [arch for arch in ARCHS if _fits(source, arch)]
    return [f'the tensors fit --arch {arch}' for arch in fitting]


def _fits(source: Mapping[str, Any], arch: str) -> bool:
    if _source_name('head.fc.weight', arch) not in source:
        return False
    model = build_classifier(arch, _num_classes(source, arch))
    return not _problems(source, model, arch)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n\nExample')[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('src', metavar='SRC', help='checkpoint to convert')
    parser.add_argument('dst', metavar='DST', help='MMEngine checkpoint to write')
    parser.add_argument('--arch', required=True, help='architecture, such as resnet56 or wrn-40-2')
    parser.add_argument('--force', action='store_true', help='overwrite DST if it exists')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Convert the file that the command line names and return the exit status."""
    args = parse_args(argv)
    return run_converter(lambda: convert_file(args.src, args.dst, args.arch, args.force))


if __name__ == '__main__':
    sys.exit(main())
