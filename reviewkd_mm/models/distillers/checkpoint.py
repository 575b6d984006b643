"""Load weights strictly, with errors that name what does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from reviewkd_mm.errors import MissingFileError, RunError
from reviewkd_mm.files.safe_loading import UntrustedError, describe_damage, load_checkpoint
from reviewkd_mm.utils import did_you_mean

STUDENT = 'student.'
# How many names, and how many modules, an error lists.
LISTED, MODULES = 4, 8
# torch's answer to a parameter of another shape.
SHAPES = re.compile(r'size mismatch for (\S+): .*?(\[.*?\]).* from checkpoint.*?(\[.*?\])')


def load_weights(
    model: nn.Module,
    checkpoint: str,
    key: str,
    allow_mismatch: Sequence[str] = (),
    trust: bool = False,
    prefix: str = '',
    allow_more: bool = False,
) -> None:
    """Load a checkpoint into a model, all of it.

    Args:
        model (nn.Module): The model.
        checkpoint (str): Path or URL of a checkpoint of the model, or of a distiller that has
            the model as its student.
        key (str): The config key that names the checkpoint, for error messages.
        allow_mismatch (Sequence[str]): Patterns of parameter names, such as ``'head.fc.*'``,
            that may be missing, unexpected, or of another shape. Defaults to ().
        trust (bool): Whether code in the file may run. Defaults to False.
        prefix (str): What the names of the weights start with; others are left out. Defaults to
            ``''``.
        allow_more (bool): Whether the checkpoint may hold more. Defaults to False.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If the file cannot be read, or a parameter is missing, unexpected or of
            another shape.
    """
    weights = model_weights(read_checkpoint(checkpoint, key, trust))
    weights = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
    drop_allowed_shapes(weights, model.state_dict(), allow_mismatch)
    errors: list[str] = []
    missing, unexpected = [], []
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # torch's answer to a shape that differs
        errors = str(error).splitlines()[1:]
    unexpected = [] if allow_more else unexpected
    problems = describe_mismatch(missing, unexpected, errors, allow_mismatch)
    if problems:
        where = f"{key}='{checkpoint}'"
        raise RunError(f'{where} does not fit {type(model).__name__}: {problems}')


def read_checkpoint(checkpoint: str, key: str, trust: bool = False) -> Mapping[str, Any]:
    """Read a checkpoint file into CPU memory.

    Args:
        checkpoint (str): Path or URL.
        key (str): The config key that names it, for error messages.
        trust (bool): Whether code in the file may run. Defaults to False.

    Raises:
        FileNotFoundError: If there is no such file.
        RuntimeError: If the file cannot be read or holds no weights.
        UntrustedError: If it refers to code and is not trusted.
    """
    check_checkpoint_exists(checkpoint, key)
    try:
        content = load_checkpoint(checkpoint, trust)
    except UntrustedError as error:
        raise UntrustedError(f"{key}='{checkpoint}' was {error}") from error
    except Exception as error:  # What unpickling raises depends on where a file is broken.
        reason = describe_damage(error)
        raise RunError(f"{key}='{checkpoint}' is no readable checkpoint: {reason}") from error
    weights = content.get('state_dict', content) if isinstance(content, Mapping) else content
    if not isinstance(weights, Mapping):
        raise RunError(
            f"{key}='{checkpoint}' is no checkpoint: expected a dict of weights by name, got "
            f'{type(weights).__name__}'
        )
    strange = next((name for name in weights if not isinstance(name, str)), None)
    if strange is not None:
        raise RunError(
            f"{key}='{checkpoint}' is no checkpoint: expected a dict of weights by name, got "
            f'{strange!r} as a name'
        )
    return content


def check_finite(model: nn.Module, where: str) -> None:
    """Check that no weight is NaN or infinite, and no buffer that is saved is NaN.

    A buffer may be infinite for good, such as the mask of an attention.

    Args:
        model (nn.Module): The model that was loaded.
        where (str): What it was loaded from, for the error message.

    Raises:
        RuntimeError: If one is, with the names.
    """
    parameters = dict(model.named_parameters())
    names = [
        name
        for name, value in model.state_dict().items()
        if isinstance(value, Tensor)
        and (value.isnan().any() or (name in parameters and value.isinf().any()))
    ]
    if names:
        raise RunError(
            f'{where}: expected finite numbers, but {len(names)} weights are NaN or infinite '
            f'({_few(names)}): its training has diverged, or the file is damaged'
        )


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
    if path.is_dir():
        raise MissingFileError(
            f"{key}='{checkpoint}': expected the file of a checkpoint, but this is a folder"
        )
    beside = sorted(file.name for file in path.parent.glob('*.pth'))
    raise MissingFileError(
        f"{key}='{checkpoint}': there is no such file{looked_in(path)}; "
        f'{did_you_mean(path.name, beside)}'
    )


def looked_in(path: Path) -> str:
    """Say where a relative path was looked for, nothing of an absolute one.

    Args:
        path (Path): A path of a config.
    """
    if path.is_absolute():
        return ''
    return f" in '{path.absolute().parent}', nor beside the config file"


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


def is_norm_state(names: Iterable[str], model: nn.Module, prefix: str = '') -> bool:
    """Tell whether a state is that of the BatchNorm layers, as a hook averages over processes.

    Args:
        names (Iterable[str]): Names of what is to be loaded.
        model (nn.Module): The model that it is loaded into.
        prefix (str): What the names of the model's own start with. Defaults to ``''``.

    Returns:
        bool: Whether it is that of all of them and nothing else.
    """
    own = {
        f'{prefix}{layer}.{name}'
        for layer, module in model.named_modules()
        if isinstance(module, _NormBase)
        for name in module.state_dict()
    }
    return bool(own) and set(names) == own


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
            parts.append(f'{len(names)} {label} ({_few(names)}){_layers(names)}')
    shapes = [shape for shape in map(SHAPES.search, errors) if shape]
    if shapes:
        texts = [f'{shape[1]} is {shape[2]}, here {shape[3]}' for shape in shapes]
        layers = _layers([shape[1] for shape in shapes])
        parts.append(f'{len(shapes)} of another shape ({_few(texts)}){layers}')
    others = [error.strip(' \t\n.') for error in errors if not SHAPES.search(error)]
    return '; '.join([*parts, *([_few(others)] if others else [])])


def _few(names: Sequence[str], limit: int = LISTED) -> str:
    more = ', …' if len(names) > limit else ''
    return ', '.join(names[:limit]) + more


def _layers(names: Sequence[str]) -> str:
    """Name the modules that hold the names, where these are too many to be listed.

    As deep as the modules are few enough: which blocks of a network it is tells another depth
    from another width or another network.
    """
    if len(names) <= LISTED:
        return ''
    owners = [name.split('.')[:-1] for name in names]
    found: list[str] = []
    for depth in range(1, max(map(len, owners)) + 1):
        deeper = list(dict.fromkeys('.'.join(owner[:depth]) for owner in owners if owner))
        if len(deeper) > MODULES:
            break
        found = deeper
    return f' in {", ".join(found)}' if found else ''
