"""Convert detectors of Detectron2, and the release files of ReviewKD's authors, to MMDetection.

A release file holds the weights of a teacher (names under ``teacher.``) and of a student (names
without it), which is a whole detector or a backbone alone, such as ImageNet weights. Any other
detector of Detectron2 counts as a student. A detector loads strictly into MMDetection's own, a
backbone through ``init_cfg=dict(type='Pretrained', checkpoint=…)`` of the detector's backbone.
The MMDetection config that the weights need is printed. No code in the file is run.

Example:
    python tools/model_converters/detectron2/to_mmdet.py r50-rt101.pth --arch retinanet \\
        --teacher checkpoints/retinanet_r101_d2.pth --student checkpoints/r50_msra.pth
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import mmengine
import torch
from mmengine.model import BaseModel
from torch import Tensor

# A checkout converts with its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
# Beside this file and above it, wherever it is started or loaded from.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from converting import (
    ConversionError,
    as_tensors,
    check_destination,
    find_state_dict,
    load_checkpoint,
    match_arch,
    misfits,
    run_converter,
    save_checkpoint,
)
from detector_settings import (
    ARCHS,
    build_detector,
    config_text,
    model_settings,
    read_backbone,
)
from parameter_names import BODY, detectron2_name, reorder_anchors

import reviewkd_mm

PREFIXES = {'teacher': 'teacher.', 'student': ''}
RUNNING = ('running_mean', 'running_var')
# Names of a whole detector start with these, besides the backbone's.
DETECTOR = ('backbone.fpn_', 'backbone.top_block.', 'proposal_generator.', 'roi_heads.', 'head.')
# What MMDetection's detectors have no use for: a pattern of names, and what it is.
LEFT_OUT = {
    'kd_trans.*': 'connectors',
    '*pixel_mean': 'pixel statistics',
    '*pixel_std': 'pixel statistics',
    '*anchor_generator.cell_anchors.*': 'anchors',
    f'{BODY}stem.fc.*': 'ImageNet classifier',
    f'{BODY}*fc1000.*': 'ImageNet classifier',
    f'{BODY}linear.*': 'ImageNet classifier',
    f'{BODY}classifier.*': 'ImageNet classifier',
}

EPILOG = """\
The MSRA ResNet-50 and 101 of Detectron2 are MMDetection's style='caffe', with the stride in a
block's first 1x1 convolution, and read BGR images of mean 103.53, 116.28, 123.675 and std 1. The
file says neither: of a network trained with other settings, change the printed config.
Detectron2's .pkl files are plain pickles and not read: load one in Detectron2 and write it with
torch.save({'model': model.state_dict()}, 'file.pth')."""


class Converted(NamedTuple):
    """A checkpoint for MMDetection.

    Args:
        state_dict (dict[str, Tensor]): Tensors by MMDetection's names.
        config (str): The text of the MMDetection config that they need.
        notes (list[str]): What was done, in lines.
    """

    state_dict: dict[str, Tensor]
    config: str
    notes: list[str]


def split(source: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    """Take a file apart.

    Args:
        source (Mapping[str, Any]): Tensors by the names of the file.

    Returns:
        tuple[dict[str, dict[str, Any]], Counter[str]]: The tensors of the teacher and those of
        the student, by the names of the file, and how many of each kind are left out.
    """
    parts, dropped = {role: {} for role in PREFIXES}, Counter()
    for name, value in source.items():
        role = 'teacher' if name.startswith(PREFIXES['teacher']) else 'student'
        plain = name.removeprefix(PREFIXES[role])
        kind = next((k for pattern, k in LEFT_OUT.items() if fnmatchcase(plain, pattern)), None)
        if kind is None:
            parts[role][name] = value
        else:
            dropped[kind] += 1
    return parts, dropped


def stated_pixels(source: Mapping[str, Any], role: str) -> dict[str, list[float]]:
    """Return the mean and std of the pixels that a file states.

    Args:
        source (Mapping[str, Any]): Tensors by the names of the file.
        role (str): ``'teacher'`` or ``'student'``.

    Returns:
        dict[str, list[float]]: ``mean`` and ``std``, or nothing where one is absent.
    """
    prefixes = ('teacher.', 'teacher_') if role == 'teacher' else ('',)
    for prefix in prefixes:
        found = {kind: source.get(f'{prefix}pixel_{kind}') for kind in ('mean', 'std')}
        if all(isinstance(value, Tensor) and value.numel() == 3 for value in found.values()):
            return {k: [round(x, 3) for x in v.flatten().tolist()] for k, v in found.items()}
    return {}


def convert(
    source: Mapping[str, Any],
    role: str,
    arch: str,
    dst: str,
    allow_unmapped: Sequence[str] = (),
) -> Converted:
    """Convert the teacher or the student of a file.

    Args:
        source (Mapping[str, Any]): Tensors by the names of the file.
        role (str): ``'teacher'`` or ``'student'``. A student may be a backbone alone.
        arch (str): A key of ``ARCHS``.
        dst (str): The file that will hold the result: the config of a backbone names it.
        allow_unmapped (Sequence[str]): Patterns of names that may have no place. Defaults to none.

    Raises:
        ConversionError: If tensors are missing, have no place or another shape: all of them.
    """
    prefix = PREFIXES[role]
    part = {name.removeprefix(prefix): value for name, value in split(source)[0][role].items()}
    if not any(name.startswith(BODY) for name in part):
        raise ConversionError(f"--{role}: the file has no tensors under '{prefix}{BODY}'")
    is_detector = role == 'teacher' or any(name.startswith(DETECTOR) for name in part)
    backbone = read_backbone(part, is_detector)
    pixels = stated_pixels(source, role) if is_detector else {}
    if pixels:
        backbone.pixels |= pixels
        backbone.hint += ', but mean and std are what the file states'
    settings = model_settings(arch, part, backbone)
    model = build_detector(arch, settings)
    if not is_detector:
        settings['backbone']['init_cfg'] = {'type': 'Pretrained', 'checkpoint': dst}
        settings = {key: settings[key] for key in ('data_preprocessor', 'backbone', 'neck')}

    expected = model.state_dict() if is_detector else _prefixed(model.backbone.state_dict())
    names = {name: detectron2_name(name, arch) for name in expected}
    part, notes = _without_allowed(part, names.values(), prefix, allow_unmapped)
    notes = [
        f'{backbone.name} {"detector" if is_detector else "backbone alone"}',
        f'mapped {len(part)} tensors',
        *notes,
        *_complete(part),
    ]
    _check(part, {names[name]: tensor for name, tensor in expected.items()}, role, arch)
    # What may be missing is the count of batches, which a frozen BatchNorm has not, and a layer
    # whose output nothing reads.
    zeros = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in expected.items()}
    state_dict = {n: _value(n, part.get(names[n], zero), model) for n, zero in zeros.items()}
    if not is_detector:
        state_dict = {name.removeprefix('backbone.'): t for name, t in state_dict.items()}
    notes += [*_zeros(name for name in expected if names[name] not in part), backbone.hint]
    return Converted(state_dict, config_text(arch, settings), notes)


def convert_file(
    src: str | Path,
    arch: str,
    teacher: str | None = None,
    student: str | None = None,
    allow_unmapped: Sequence[str] = (),
    force: bool = False,
) -> str:
    """Convert the teacher of a file, its student, or both.

    Args:
        src (str | Path): The checkpoint to read.
        arch (str): Architecture of both detectors, see ``ARCHS``.
        teacher (str, optional): The MMEngine checkpoint to write for the tensors under
            ``teacher.``. Defaults to None, which leaves them out.
        student (str, optional): That for the other tensors. Defaults to None.
        allow_unmapped (Sequence[str]): Patterns of names that may have no place in MMDetection's
            detector and are left out then. Defaults to none.
        force (bool): Whether the files to write may be overwritten. Defaults to False.

    Returns:
        str: What was done, in lines, and the MMDetection config of each.

    Raises:
        ConversionError: If it cannot be done; nothing is written then.
    """
    arch = match_arch(arch, ARCHS)
    destinations = {'teacher': teacher, 'student': student}
    destinations = {role: dst for role, dst in destinations.items() if dst is not None}
    _check_destinations(Path(src), destinations, force)
    source = as_tensors(find_state_dict(_load(src)))
    results = {
        role: convert(source, role, arch, dst, allow_unmapped)
        for role, dst in destinations.items()
    }
    lines = [f'{src}: {arch}', _left_out(source, results)]
    for role, result in results.items():
        meta = {
            'arch': arch,
            'role': role,
            'source': {'file': Path(src).name},
            'config': result.config,
            'reviewkd_mm_version': reviewkd_mm.__version__,
            'mmengine_version': mmengine.__version__,
        }
        dst = destinations[role]
        save_checkpoint({'meta': meta, 'state_dict': result.state_dict}, dst)
        lines += ['', f'{role} -> {dst}', *result.notes, 'MMDetection config:', result.config]
    return '\n'.join(lines)


def _left_out(source: Mapping[str, Any], roles: Iterable[str]) -> str:
    parts, dropped = split(source)
    for role, part in parts.items():
        if part and role not in roles:
            dropped[f'{role}, not asked for'] = len(part)
    listed = ', '.join(f'{kind} ({count} tensors)' for kind, count in dropped.items())
    return f'left out: {listed or "nothing"}'


def _load(src: str | Path) -> Any:
    try:
        return load_checkpoint(src)
    except ConversionError as error:
        if Path(src).suffix != '.pkl' or not Path(src).is_file():
            raise
        raise ConversionError(
            f"{error}\nDetectron2's .pkl files are plain pickles, which can run code: load it in "
            "Detectron2 and write it with torch.save({'model': model.state_dict()}, 'file.pth')"
        ) from error


def _check_destinations(src: Path, destinations: Mapping[str, str], force: bool) -> None:
    if not destinations:
        raise ConversionError('nothing to write: give --teacher, --student or both')
    for dst in destinations.values():
        check_destination(src, Path(dst), force)
    if len({Path(dst).resolve() for dst in destinations.values()}) < len(destinations):
        raise ConversionError(f'{destinations["student"]}: is both --teacher and --student')


def _prefixed(backbone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f'backbone.{name}': tensor for name, tensor in backbone.items()}


def _without_allowed(
    part: Mapping[str, Any], known: Iterable[str], prefix: str, patterns: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Leave out the tensors without a place that the patterns allow, and say which."""
    unmapped = part.keys() - set(known)
    allowed = [
        n for n in part if n in unmapped and any(fnmatchcase(prefix + n, p) for p in patterns)
    ]
    notes = ['left out as allowed: ' + ', '.join(prefix + name for name in allowed)]
    kept = {name: value for name, value in part.items() if name not in allowed}
    return kept, notes if allowed else []


def _value(name: str, source: Tensor, model: BaseModel) -> Tensor:
    """Return the tensor of a name in MMDetection's detector."""
    source = source.detach().cpu().clone()
    if not name.startswith(('bbox_head.retina_cls.', 'bbox_head.retina_reg.')):
        return source
    anchors = model.bbox_head.prior_generator
    return reorder_anchors(source, len(anchors.scales), len(anchors.ratios))


def _zeros(missing: Iterable[str]) -> list[str]:
    """Say which tensors were set to 0."""
    conv2, counts = 'backbone.conv2, which no level reads', 'num_batches_tracked'
    kinds = Counter(conv2 if name.startswith('backbone.conv2.') else counts for name in missing)
    return [f'set {count} missing tensors to 0: {kind}' for kind, count in kinds.items()]


def _complete(source: dict[str, Any]) -> list[str]:
    """Add the running statistics that BatchNorms of Caffe2 lack, as Detectron2 does."""
    if any(name.endswith(RUNNING) for name in source):
        return []
    weights = {
        n.removesuffix('.weight'): w for n, w in source.items() if n.endswith('.norm.weight')
    }
    norms = {norm: weight for norm, weight in weights.items() if isinstance(weight, Tensor)}
    for norm, weight in norms.items():
        source[f'{norm}.running_mean'] = torch.zeros_like(weight)
        source[f'{norm}.running_var'] = torch.ones_like(weight)
    added = f'set the missing running_mean of {len(norms)} BatchNorms to 0, running_var to 1'
    return [added] if norms else []


def _check(
    source: Mapping[str, Any], expected: Mapping[str, Tensor], role: str, arch: str
) -> None:
    """Refuse tensors that do not fit, by the names of the file."""
    prefix = PREFIXES[role]
    # MMDetection's MobileNetV2 has a last layer that no level reads.
    last = [name for name in expected if name.startswith(f'{BODY}conv.')]
    optional = [] if any(name in source for name in last) else last
    problems = misfits(
        {prefix + name: value for name, value in source.items()},
        {prefix + name: tensor for name, tensor in expected.items()},
        [prefix + name for name in optional],
    )
    if not problems:
        return
    likely = _likely_arch(source)
    hint = [f'the names are those of --arch {likely}'] if likely not in (arch, None) else []
    raise ConversionError('\n'.join(problems + hint))


def _likely_arch(source: Mapping[str, Any]) -> str | None:
    """Name the architecture whose heads a state dict has, if it has any."""
    marks = {
        'retinanet': 'head.cls_subnet.',
        'mask-rcnn': 'roi_heads.mask_head.',
        'faster-rcnn': 'roi_heads.box_head.',
    }
    found = (a for a, mark in marks.items() if any(name.startswith(mark) for name in source))
    return next(found, None)


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
    parser.add_argument('src', help='checkpoint of Detectron2, or release file of the authors')
    parser.add_argument('--arch', required=True, help=', '.join(ARCHS))
    parser.add_argument('--teacher', metavar='DST', help='MMEngine checkpoint of the teacher')
    parser.add_argument('--student', metavar='DST', help='MMEngine checkpoint of the student')
    parser.add_argument(
        '--allow-unmapped',
        nargs='+',
        default=[],
        metavar='PATTERN',
        help="leave out tensors of these names that have no place, such as 'roi_heads.extra.*'",
    )
    parser.add_argument('--force', action='store_true', help='overwrite existing files')
    args = parser.parse_args(argv)
    return run_converter(
        lambda: convert_file(
            args.src, args.arch, args.teacher, args.student, args.allow_unmapped, args.force
        )
    )


if __name__ == '__main__':
    sys.exit(main())
