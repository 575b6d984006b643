"""Show what was found of configs, on a terminal and for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from reviewkd_mm.checks.complexity import WHOLE
from reviewkd_mm.cli.config_check import ConfigCheck, NetworkCheck, TransferCheck

NOTHING = '-'
UNITS = ((1e9, 'G'), (1e6, 'M'), (1e3, 'k'))
STYLES = dict(error='bold red', missing='yellow', download='cyan')


def status_of(check: ConfigCheck) -> str:
    """Return ``'broken'``, ``'incomplete'`` (something is missing) or ``'ready'``."""
    if check.error is not None:
        return 'broken'
    return 'incomplete' if check.missing else 'ready'


def render_check(check: ConfigCheck) -> RenderableType:
    """Lay out what was found of a config.

    Args:
        check (ConfigCheck): What was found.

    Returns:
        RenderableType: What a rich console prints.
    """
    parts: list[RenderableType] = [Rule(Text(check.config), align='left')]
    if check.networks:
        parts.append(_network_table(check))
    parts += [_transfer_table(name, transfer) for name, transfer in check.transfers.items()]
    parts += [_line('missing', f'missing: {text}') for text in check.missing]
    parts += [_line('download', f'will be downloaded: {text}') for text in check.downloads]
    if check.error is not None:
        parts.append(_line('error', f'error: {check.config}: {check.error}'))
    return Group(*parts)


def summarise_checks(checks: Sequence[ConfigCheck]) -> Text:
    """Say in a line how many configs are ready, incomplete and broken, and name the broken.

    Args:
        checks (Sequence[ConfigCheck]): What was found.

    Returns:
        Text: The line.
    """
    by_status: dict[str, list[str]] = dict(ready=[], incomplete=[], broken=[])
    for check in checks:
        by_status[status_of(check)].append(check.config)
    counts = ', '.join(f'{len(configs)} {status}' for status, configs in by_status.items())
    broken = by_status['broken']
    names = f': {", ".join(broken)}' if broken else ''
    return _line('error' if broken else '', f'{len(checks)} configs: {counts}{names}')


def checks_as_records(checks: Sequence[ConfigCheck]) -> list[dict[str, Any]]:
    """Return what was found as data for JSON.

    Args:
        checks (Sequence[ConfigCheck]): What was found.

    Returns:
        list[dict]: The fields of each check and its ``status``.
    """
    return [{'status': status_of(check), **asdict(check)} for check in checks]


def _line(kind: str, text: str) -> Text:
    return Text(text, style=STYLES.get(kind, ''), overflow='fold')


def _network_table(check: ConfigCheck) -> Table:
    height, width = check.image_size
    table = Table(
        caption=f'for an image of {height} x {width} ({check.image_size_from}); FLOPs are '
        'multiply-adds',
        caption_justify='left',
    )
    for column in ('', 'network', 'parameters', 'FLOPs'):
        is_number = column in ('parameters', 'FLOPs')
        table.add_column(column, justify='right' if is_number else 'left', overflow='fold')
    for role, network in check.networks.items():
        row = (role, _describe(network), f'{network.parameters:,}', _flops(network))
        table.add_row(*map(Text, row))
    if check.transfers:
        row = ('transfers', 'connectors and losses', f'{check.transfer_parameters:,}', '')
        table.add_row(*row)
    return table


def _describe(network: NetworkCheck) -> str:
    what = f'{network.model}: {network.backbone}' if network.backbone else network.model
    return f'{what}\n{network.config}' if network.config else what


def _flops(network: NetworkCheck) -> str:
    if network.flops is None:
        return network.flops_of
    count = _shorten(network.flops)
    return count if network.flops_of == WHOLE else f'{count} ({network.flops_of})'


def _shorten(number: int) -> str:
    for factor, unit in UNITS:
        if number >= factor:
            return f'{number / factor:.2f} {unit}'
    return str(number)


def _transfer_table(name: str, transfer: TransferCheck) -> Table:
    weight = NOTHING if transfer.loss_weight is None else f'{transfer.loss_weight:g}'
    table = Table(
        title=f'{name}: {transfer.connector or "no connector"}, {transfer.loss}, '
        f'loss_weight {weight}, warmup_epochs {transfer.warmup_epochs:g}',
        title_justify='left',
    )
    columns = ('student tap', '(C, H, W)', 'after the connector', 'teacher tap', '(C, H, W)')
    for column in columns:
        table.add_column(column, overflow='fold')
    shapes = transfer.shapes
    for student, connected, teacher in zip_longest(
        shapes.student, shapes.connected, shapes.teacher
    ):
        row = (*_cells(student), str(connected or NOTHING), *_cells(teacher))
        table.add_row(*map(Text, row))
    return table


def _cells(feature: tuple[str, tuple[int, ...]] | None) -> tuple[str, str]:
    return (NOTHING, NOTHING) if feature is None else (feature[0], str(feature[1]))
