"""Load weights strictly, with errors that name what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from reviewkd_mm.utils import did_you_mean

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
    weights = model_weights(read_checkpoint(checkpoint, key))
    drop_allowed_shapes(weights, model.state_dict(), allow_mismatch)
    errors: list[str] = []
    missing, unexpected = [], []
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # torch's answer to a shape that differs
        errors = str(error).splitlines()[1:]
    problems = describe_mismatch(missing, unexpected, errors, allow_mismatch)
    if problems:
        where = f"{key}='{checkpoint}'"
        raise RuntimeError(f'{where} does not fit {type(model).__name__}: {problems}')


def read_checkpoint(checkpoint: str, key: str) -> Mapping[str, Any]:
    """Read a checkpoint file into CPU memory.

    Args:
        checkpoint (str): Path or URL.
        key (str): The config key that names it, for error messages.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If the file cannot be read or holds no weights.
    """
    check_checkpoint_exists(checkpoint, key)
    try:
        content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    except Exception as error:  # What unpickling raises depends on where a file is broken.
        raise RuntimeError(f"{key}='{checkpoint}' is no readable checkpoint: {error}") from error
    weights = content.get('state_dict', content) if isinstance(content, Mapping) else content
    if not isinstance(weights, Mapping):
        raise RuntimeError(
            f"{key}='{checkpoint}' is no checkpoint: expected a dict of weights by name, got "
            f'{type(weights).__name__}'
        )
    return content


def check_checkpoint_exists(checkpoint: str, key: str) -> None:
    """Check that a checkpoint which is no URL is a file.

    Args:
        checkpoint (str): Path or URL.
        key (str): The config key that names it, for the error message.

    Raises:
        FileNotFoundError: If it is not, with the nearest names in its folder.
    """
    path = Path(checkpoint).expanduser()
    if '://' in checkpoint or path.is_file():
        return
    beside = sorted(file.name for file in path.parent.glob('*.pth'))
    raise FileNotFoundError(
        f"{key}='{checkpoint}': there is no such file; {did_you_mean(path.name, beside)}"
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


def drop_allowed_shapes(
    weights: dict[str, Tensor], own: Mapping[str, Tensor], patterns: Sequence[str]
) -> None:
    """Drop the weights whose shape differs from the model's where a pattern allows it.

    The other shapes are for the model to judge: a vision transformer resizes its position
    embedding while it loads.

    Args:
        weights (dict[str, Tensor]): The checkpoint's weights by name, changed in place.
        own (Mapping[str, Tensor]): The model's.
        patterns (Sequence[str]): Patterns of names.
    """
    for name in allowed(own, patterns):
        if name in weights and weights[name].shape != own[name].shape:
            del weights[name]


def allowed(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match a pattern."""
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def describe_mismatch(
    missing: Sequence[str],
    unexpected: Sequence[str],
    errors: Sequence[str] = (),
    allow_mismatch: Sequence[str] = (),
) -> str:
    """Say what does not fit, or nothing.

    Args:
        missing (Sequence[str]): Names that the checkpoint lacks.
        unexpected (Sequence[str]): Names that the model lacks.
        errors (Sequence[str]): What torch says of shapes that differ. Defaults to ().
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
    if errors:
        parts.append(_few([error.strip(' \t\n.') for error in errors]))
    return '; '.join(parts)


def _few(names: Sequence[str], limit: int = 4) -> str:
    more = ', …' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more
