"""Find a module of a model by its path."""

from __future__ import annotations

from torch import nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.utils import did_you_mean


def find_module(model: nn.Module, path: str) -> nn.Module:
    """Return the module at a dotted path, in which indices may be negative.

    Args:
        model (nn.Module): The model to search.
        path (str): For example ``'neck'`` or ``'backbone.layer1.-1.relu'``; ``-1`` is the last
            child of a Sequential or ModuleList, so that one path serves every depth.

    Returns:
        nn.Module: The module.

    Raises:
        ValueError: If there is no such module, with the nearest paths that exist.
    """
    return ancestry(model, path)[-1]


def ancestry(model: nn.Module, path: str) -> list[nn.Module]:
    """Return the modules from the model down to the one at a path, both included.

    Args:
        model (nn.Module): The model to search.
        path (str): A dotted path, see :func:`find_module`.

    Returns:
        list[nn.Module]: As many modules as the path has names, and the model before them.

    Raises:
        ValueError: If there is no such module.
    """
    if not isinstance(path, str) or not path:
        raise ConfigError(f'expected the path of a module, got {path!r}')
    modules, walked = [model], []
    for name in path.split('.'):
        child = _child(modules[-1], name)
        if child is None:
            raise ConfigError(_missing(modules[-1], '.'.join(walked), name, path))
        walked.append(name)
        modules.append(child)
    return modules


def _child(module: nn.Module, name: str) -> nn.Module | None:
    # Not named_children(): it leaves out the second name of a module that has two.
    child = getattr(module, name, None)
    if isinstance(child, nn.Module):
        return child
    try:
        return module[int(name)] if _is_sequence(module) else None
    except (ValueError, IndexError):
        return None


def _is_sequence(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList))


def _missing(parent: nn.Module, prefix: str, name: str, path: str) -> str:
    where = f"'{prefix}' ({type(parent).__name__})" if prefix else f'{type(parent).__name__}'
    children = [child for child, _ in parent.named_children()]
    if _is_sequence(parent) and children:
        hint = f'it has {len(parent)} children: 0 to {len(parent) - 1}, or -1 for the last'
    elif children:
        paths = [f'{prefix}.{child}'.lstrip('.') for child in children]
        hint = did_you_mean(f'{prefix}.{name}'.lstrip('.'), paths)
    else:
        hint = 'it has no children'
    return f"there is no module '{path}': {where} has no child '{name}'; {hint}"
