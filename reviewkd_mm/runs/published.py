"""What the metafiles of the configs say about a training: its models and its published number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from reviewkd_mm.config.files import CONFIG_FOLDERS, read_config
from reviewkd_mm.errors import ConfigError
from reviewkd_mm.runs.run import Run

# What a result depends on. The rest of a config says where and how fast it runs, and what is kept.
COMPARED = (
    'model',
    'train_cfg',
    'param_scheduler',
    'optim_wrapper',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
)
# Parts of these that say where and how fast, too; the tools set some of them.
PLACES = frozenset(
    {
        'ann_file',
        'backend_args',
        'check_md5',
        'collate_fn',
        'data_prefix',
        'data_root',
        'loss_scale',
        'num_workers',
        'persistent_workers',
        'pin_memory',
        'teacher_ckpt',
    }
)


@dataclass(frozen=True)
class Listed:
    """A config of a metafile.

    Args:
        name (str): Its name there.
        config (Path): Its file.
        metric (str | None): What is measured, such as ``'Top 1 Accuracy'``.
        teacher (str): The teacher; empty where there is none.
        student (str): The student.
        published (float | None): The number that its source reports; None if none does.
        source (str): The source of that number.
    """

    name: str
    config: Path
    metric: str | None
    teacher: str = ''
    student: str = ''
    published: float | None = None
    source: str = ''


def read_metafiles(folders: Iterable[Path] = CONFIG_FOLDERS) -> list[Listed]:
    """Read the metafiles of a checkout's configs or of the installed package's.

    Args:
        folders (Iterable[Path]): Where the configs may be; the first that is there counts.
            Defaults to the checkout's and the package's.

    Returns:
        list[Listed]: Every config that they list; none where there is no folder.

    Raises:
        ValueError: If a file is no metafile.
    """
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        return []
    listed = []
    for file in sorted(folder.glob('*/metafile.yml')):
        try:
            models = yaml.safe_load(file.read_text(encoding='utf-8'))['Models']
            listed += [_read_model(model, folder) for model in models]
        except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f'{file}: expected a metafile with Models, each of which has a Name, a Config and '
                f'Metadata: {error!r}'
            ) from error
    return listed


def _read_model(model: Mapping[str, Any], folder: Path) -> Listed:
    metadata = model['Metadata']
    published = metadata.get('Published')
    return Listed(
        name=model['Name'],
        config=folder.parent / model['Config'],
        metric=metadata.get('Metric'),
        teacher=metadata.get('Teacher', ''),
        student=metadata.get('Student', ''),
        published=None if published is None else float(published),
        source=metadata.get('Published Source', ''),
    )


def find_listed(run: Run, listed: Iterable[Listed]) -> Listed | None:
    """Find the config that a training was started with.

    Names of files repeat between folders. Of several the one counts whose model is the nearest to
    the training's.

    Args:
        run (Run): The training.
        listed (Iterable[Listed]): What the metafiles list.

    Returns:
        Listed | None: The config; None where none or no single one fits. What is doubtful is added
        to the training's problems.
    """
    if run.config is None:
        return None
    same = [entry for entry in listed if entry.config.stem == run.name]
    if len(same) < 2:
        return same[0] if same else None
    distances = {}
    for entry in same:
        changes = find_changes(run, entry, ('model',))
        if changes is not None:
            distances[entry.name] = len(changes)
    nearest = min(distances.values(), default=None)
    fits = [entry for entry in same if distances.get(entry.name) == nearest]
    if len(fits) == 1 and nearest is not None:
        return fits[0]
    names = ' or '.join(entry.name for entry in same)
    run.problems.append(f'{run.work_dir}: it cannot be told whether it is of {names}')
    return None


def find_changes(run: Run, entry: Listed, keys: Sequence[str] = COMPARED) -> list[str] | None:
    """Find what a training does otherwise than its config file says.

    Args:
        run (Run): The training.
        entry (Listed): The config.
        keys (Sequence[str]): What is compared. Defaults to all that a result depends on.

    Returns:
        list[str] | None: The dotted keys that differ; None where a config cannot be read, which
        is added to the training's problems.
    """
    own = _read_own(entry.config)
    if isinstance(own, str):
        problem = f'{entry.config}: {own}; nothing is compared with {entry.name}'
        if problem not in run.problems:
            run.problems.append(problem)
        return None
    if run.config is None:
        return None
    before, after = flatten_config(own, keys), flatten_config(run.config, keys)
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


@cache
def _read_own(file: Path) -> Config | str:
    try:
        return read_config(file)
    except Exception as error:  # A config is a program, which may end in any error.
        return f'{type(error).__name__}: {error}'


def flatten_config(config: Config, keys: Sequence[str] = COMPARED) -> dict[str, Any]:
    """Return a config's values by dotted key, without what a result does not depend on.

    Args:
        config (Config): The config.
        keys (Sequence[str]): Its top-level keys that count. Defaults to all that a result depends
            on.
    """
    flat = {path: value for key in keys for path, value in _walk(config.get(key), key)}
    # Mixed precision changes the wrapper alone.
    flat.pop('optim_wrapper.type', None)
    return flat


def _walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        # A dumped config names a class where a file may have the class itself.
        yield path, f'{node.__module__}.{node.__name__}' if isinstance(node, type) else node
        return
    for key, child in items:
        if key not in PLACES:
            yield from _walk(child, f'{path}.{key}')
