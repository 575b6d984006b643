"""Read checkpoint files without running code that a stranger may have put into them.

A checkpoint is a pickle, and a pickle can name any function to be called while it is read.
"""

from __future__ import annotations

import argparse
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
    load_from_local,
)

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.utils import did_you_mean

# torch's own switches, which reach every torch.load of the process: MMEngine's, torch.hub's too.
ONLY_WEIGHTS = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
NOT_ONLY_WEIGHTS = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
FLOATS = ('float16', 'float32', 'float64')
INTEGERS = ('int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64')
HOW_TO_TRUST = (
    'if you trust whoever made it, give the tool --trust-checkpoint, or for a teacher set '
    'model.trust_checkpoint=True'
)


class UntrustedError(ConfigError):
    """A file was not read, since that could run code; the message says what it refers to."""


class DamagedError(ConfigError):
    """A file has not all of its bytes as they were saved."""


def load_checkpoint(checkpoint: str | Path, trust: bool = False) -> Any:
    """Read a checkpoint into CPU memory: tensors, plain values and what MMEngine saves.

    Args:
        checkpoint (str | Path): Path, URL, or a name such as ``torchvision://resnet50``.
        trust (bool): Whether a file that holds anything else may be read as well, which runs
            code that is in it. Defaults to False.

    Returns:
        Any: What the file holds.

    Raises:
        UntrustedError: If reading it could run code and it is not trusted.
        DamagedError: If it is not as it was saved.
        Exception: Whatever reading a file of another kind, or a download, raises.
    """
    trust = trust or is_trusted()
    try:
        return _load(str(checkpoint), only_weights=True)
    except Exception as error:
        name = refused_global(error)
        if name is None:
            raise
        if not trust:
            raise UntrustedError(_describe_refusal(name)) from error
        warnings.warn(
            f"'{checkpoint}' is trusted: code in it can run, since it refers to '{name}'",
            stacklevel=2,
        )
    return _load(str(checkpoint), only_weights=False)


@contextmanager
def guard_loading(trust: bool = False) -> Iterator[None]:
    """Keep every checkpoint that is read inside the block from running code, whoever reads it.

    That covers what MMEngine's Runner resumes from and loads, and pretrained weights of an
    ``init_cfg``. MMEngine reads a file that refers to code as if it were trusted.

    Args:
        trust (bool): Whether checkpoints are trusted inside the block. Defaults to False.

    Raises:
        UntrustedError: If a file was refused.
        DamagedError: If a file cannot be read.
    """
    trust = trust or is_trusted()
    before = CheckpointLoader._schemes['']  # of local files
    CheckpointLoader.register_scheme('', before if trust else _load_local, force=True)
    try:
        with _switched(only_weights=not trust), _harmless():
            yield
    except UnpicklingError as error:
        name = refused_global(error)
        if name is None:
            raise DamagedError(
                f'a checkpoint cannot be read ({describe_damage(error)})'
            ) from error
        raise UntrustedError(f'a checkpoint was {_describe_refusal(name)}') from error
    finally:
        CheckpointLoader.register_scheme('', before, force=True)


def is_trusted() -> bool:
    """Tell whether checkpoints are trusted in this process, by the tool's option or by torch's."""
    return os.environ.get(NOT_ONLY_WEIGHTS, '0').lower() in ('1', 'y', 'yes', 'true')


def check_whole(file: Path) -> None:
    """Check that a file has all of its bytes as torch.save wrote them.

    torch itself does not compare the checksums that it stores.

    Args:
        file (Path): A file; one of before torch 1.6 has no checksums and passes.

    Raises:
        DamagedError: If it was cut off or changed.
    """
    with file.open('rb') as opened:
        if opened.read(2) != b'PK':
            return
    try:
        with zipfile.ZipFile(file) as archive:
            changed = archive.testzip()
    except Exception as error:  # What reading raises depends on where a file is broken.
        raise DamagedError(f'the file is cut off or damaged ({error})') from error
    if changed is not None:
        raise DamagedError(f"the file is damaged: the checksum of '{changed}' in it differs")


def resolve_name(checkpoint: str) -> str:
    """Return the URL of weights that MMEngine knows by name; others come back as they are.

    Args:
        checkpoint (str): Such as ``torchvision://resnet50``.

    Raises:
        ValueError: If MMEngine knows no such name, with the nearest that it knows.
    """
    scheme, _, name = checkpoint.partition('://')
    known = _catalogue(scheme)
    if known and name not in known:
        raise ConfigError(f"MMEngine knows no '{checkpoint}'; {did_you_mean(name, known)}")
    return known.get(name, checkpoint)


def refused_global(error: BaseException) -> str | None:
    """Return to what a file refers that is no tensor and no plain value.

    Args:
        error (BaseException): What reading it with ``weights_only`` raised.

    Returns:
        str | None: Such as ``'posix.system'``; None if the error is another.
    """
    found = re.search(r"GLOBAL (\S+)|but got <class '(\S+)'>", str(error))
    return found[1] or found[2] if found else None


def describe_damage(error: BaseException) -> str:
    """Say in one line why a file could not be read.

    torch's own message of many lines recommends to read the file as if it were trusted.

    Args:
        error (BaseException): What reading it raised.
    """
    if isinstance(error, DamagedError):
        return str(error)
    detail = str(error).split('WeightsUnpickler error: ')[-1].strip().partition('\n')[0]
    return f'{type(error).__name__}: {detail}' if detail else type(error).__name__


def harmless_globals() -> list[Any]:
    """Return what checkpoints hold beside tensors and plain values, and what cannot do harm.

    These are NumPy's numbers and arrays of numbers, by their names in NumPy 1 and 2, the history
    of MMEngine's logs, and argparse's options. An array of objects is refused, since its type is
    not among the numbers.
    """
    rebuild_scalar = np.float64(0).__reduce__()[0]
    rebuild_array = np.zeros(0).__reduce__()[0]
    return [
        (rebuild_scalar, 'numpy.core.multiarray.scalar'),
        (rebuild_scalar, 'numpy._core.multiarray.scalar'),
        (rebuild_array, 'numpy.core.multiarray._reconstruct'),
        (rebuild_array, 'numpy._core.multiarray._reconstruct'),
        np.ndarray,
        np.dtype,
        *(type(np.dtype(name)) for name in ('bool', *FLOATS, *INTEGERS)),
        argparse.Namespace,
        HistoryBuffer,
        # MMEngine itself lets files call getattr, through which any function can be reached.
        (_history_method, 'builtins.getattr'),
    ]


def _load(checkpoint: str, only_weights: bool) -> Any:
    path = Path(checkpoint).expanduser()
    with _switched(only_weights), _harmless():
        if path.is_file():
            check_whole(path)
            return torch.load(path, map_location='cpu', weights_only=only_weights)
        if '://' not in checkpoint:
            return load_from_local(checkpoint, map_location='cpu')  # which says what is missing
        resolve_name(checkpoint)
        return CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')


@cache
def _catalogue(scheme: str) -> dict[str, str]:
    if scheme in ('torchvision', 'modelzoo'):
        return get_torchvision_models()
    if scheme == 'mmcls':
        return get_mmcls_models()
    if scheme not in ('open-mmlab', 'openmmlab'):
        return {}
    urls = get_external_models()
    renamed = get_deprecated_model_names()
    return {**urls, **{old: urls[new] for old, new in renamed.items() if new in urls}}


def _describe_refusal(name: str) -> str:
    return (
        f"refused, since reading it could run code: it refers to '{name}', but expected are "
        f'tensors and plain values alone; {HOW_TO_TRUST}'
    )


def _history_method(owner: object, name: str) -> Any:
    """Stand in for getattr, by which a HistoryBuffer stores its own methods."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise UnpicklingError('Unsupported global: GLOBAL getattr')
    return getattr(owner, name)


def _load_local(filename: str, map_location: Any = None) -> Any:
    """Read a file for MMEngine as strictly as for this package."""
    try:
        return load_checkpoint(filename)
    except UntrustedError as error:
        raise UntrustedError(f"'{filename}' was {error}") from error
    except DamagedError as error:
        raise DamagedError(f"'{filename}': {error}") from error


def _harmless() -> Any:
    return torch.serialization.safe_globals(harmless_globals())


@contextmanager
def _switched(only_weights: bool) -> Iterator[None]:
    before = {name: os.environ.pop(name, None) for name in (ONLY_WEIGHTS, NOT_ONLY_WEIGHTS)}
    os.environ[ONLY_WEIGHTS if only_weights else NOT_ONLY_WEIGHTS] = '1'
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
