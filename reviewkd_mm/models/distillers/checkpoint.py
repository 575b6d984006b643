"""Load weights strictly, with errors that name what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

STUDENT = 'student.'


def load_weights(
    model: nn.Module, checkpoint: str, key: str, allow_mismatch: Sequence[str] = ()
) -> None:
    """Load a checkpoint into a model, all of it.

    Args:
        model (nn.Module): The model.
        checkpoint (str): Path or URL of a checkpoint of the model, or of a distiller that has
            the model as its student.
        key (str): The config key that names the checkpoint, for error messages.
        allow_mismatch (Sequence[str]): Patterns of parameter names, such as ``'head.fc.*'``,
            that may be missing, unexpected, or of another shape. Defaults to ().

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If a parameter is missing, unexpected or of another shape.
    """
    where = f"{key}='{checkpoint}'"
    weights = model_weights(read_checkpoint(checkpoint, key))
    wrong_shapes = shape_mismatches(model.state_dict(), weights)
    for name in allowed(wrong_shapes, allow_mismatch):
        del weights[name], wrong_shapes[name]
    missing, unexpected = [], []
    if not wrong_shapes:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    problems = describe_mismatch(missing, unexpected, wrong_shapes, allow_mismatch)
    if problems:
        raise RuntimeError(f'{where} does not fit {type(model).__name__}: {problems}')


def read_checkpoint(checkpoint: str, key: str) -> Mapping[str, Any]:
    """Read a checkpoint file into CPU memory.

    Args:
        checkpoint (str): Path or URL.
        key (str): The config key that names it, for error messages.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If the file cannot be read.
    """
    check_checkpoint_exists(checkpoint, key)
    try:
        return CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise RuntimeError(f"{key}='{checkpoint}' is no readable checkpoint: {error}") from error


def check_checkpoint_exists(checkpoint: str, key: str) -> None:
    """Check that a checkpoint which is no URL is a file.

    Raises:
        FileNotFoundError: If it is not.
    """
    if '://' in checkpoint or Path(checkpoint).expanduser().is_file():
        return
    raise FileNotFoundError(
        f"{key}='{checkpoint}': there is no such file. Train it with its config in "
        'configs/baselines, convert a published one with tools/model_converters, or give the '
        'path of another checkpoint'
    )


def model_weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a model, or of the student if a distiller was saved.

    Args:
        checkpoint (Mapping): A checkpoint of MMEngine's layout, or a bare state dict.

    Returns:
        dict[str, Tensor]: Weights by parameter name.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {name.removeprefix('module.'): value for name, value in weights.items()}
    student = {
        name.removeprefix(STUDENT): value
        for name, value in weights.items()
        if name.startswith(STUDENT)
    }
    return student or weights


def shape_mismatches(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], prefix: str = ''
) -> dict[str, str]:
    """Return the names that both have, with both shapes in words, where the shapes differ.

    Args:
        own (Mapping[str, Tensor]): The model's state dict.
        given (Mapping[str, Tensor]): The checkpoint's.
        prefix (str): What the checkpoint's names have before the model's. Defaults to ''.
    """
    return {
        prefix + name: f'{tuple(given[prefix + name].shape)} for {tuple(value.shape)}'
        for name, value in own.items()
        if prefix + name in given and given[prefix + name].shape != value.shape
    }


def allowed(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match a pattern."""
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def describe_mismatch(
    missing: Sequence[str],
    unexpected: Sequence[str],
    wrong_shapes: Mapping[str, str],
    allow_mismatch: Sequence[str] = (),
) -> str:
    """Say what does not fit, or nothing.

    Args:
        missing (Sequence[str]): Names that the checkpoint lacks.
        unexpected (Sequence[str]): Names that the model lacks.
        wrong_shapes (Mapping[str, str]): Names of another shape, with both shapes in words.
        allow_mismatch (Sequence[str]): Patterns of names that are no problem. Defaults to ().

    Returns:
        str: The problems, or ``''`` where there are none.
    """
    # Checkpoints from before torch 0.4.1 lack the counter; nothing but momentum=None reads it.
    missing = [name for name in missing if not name.endswith('num_batches_tracked')]
    parts = []
    for label, names in (('missing', missing), ('unexpected', unexpected)):
        names = sorted(set(names) - set(allowed(names, allow_mismatch)))
        if names:
            parts.append(f'{len(names)} {label} ({_few(names)})')
    if wrong_shapes:
        shapes = [f'{name}: {shapes}' for name, shapes in wrong_shapes.items()]
        parts.append(f'{len(shapes)} of another shape ({_few(shapes)})')
    return '; '.join(parts)


def _few(names: Sequence[str], limit: int = 4) -> str:
    more = ', …' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more
