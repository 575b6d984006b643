"""Tests of showing what was found of configs."""

from __future__ import annotations

import io
import json

from rich.console import Console

from reviewkd_mm.checks.transfer_shapes import TransferShapes
from reviewkd_mm.cli import checks_as_records, render_check, status_of, summarise_checks
from reviewkd_mm.cli.config_check import ConfigCheck, NetworkCheck, TransferCheck


def make_check(**kwargs: object) -> ConfigCheck:
    network = NetworkCheck(
        model='RetinaNet',
        backbone='ResNet, depth 50',
        config='mmdet::retinanet/some.py',
        parameters=37_968_692,
        flops=238_990_000_000,
        flops_of='whole network',
    )
    shapes = TransferShapes(
        student=[('neck[0]', (8, 4, 6)), ('neck[1]', (8, 2, 3))],
        teacher=[('neck[0]', (16, 4, 6))],
        connected=[(16, 4, 6)],
    )
    transfer = TransferCheck('ReviewConnector', 'HCLLoss', 0.6, 20, shapes)
    defaults = dict(
        config='pair.py',
        image_size=(800, 1344),
        image_size_from='the val pipeline',
        networks=dict(student=network),
        transfer_parameters=3_286_024,
        transfers=dict(review=transfer),
    )
    return ConfigCheck(**{**defaults, **kwargs})


def show(check: ConfigCheck) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(render_check(check))
    return console.file.getvalue()


def test_a_report_says_it_all():
    shown = show(make_check(missing=['a file [b]'], downloads=['https://example.org/a.pth']))

    for text in (
        'pair.py',
        'RetinaNet: ResNet, depth 50',
        'mmdet::retinanet/some.py',
        '37,968,692',
        '238.99 G',
        '3,286,024',
        '800 x 1344 (the val pipeline)',
        'review: ReviewConnector, HCLLoss, loss_weight 0.6, warmup_epochs 20',
        '(16, 4, 6)',
        'missing: a file [b]',
        'will be downloaded: https://example.org/a.pth',
    ):
        assert text in shown


def test_what_was_not_counted_whole_is_said():
    check = make_check()
    check.networks['student'].flops_of = 'backbone and neck'
    assert '238.99 G (backbone and neck)' in show(check)

    check.networks['student'].flops = None
    check.networks['student'].flops_of = 'not counted: it fails'
    assert 'not counted: it fails' in show(check)


def test_an_error_names_the_config():
    check = ConfigCheck('folder/bad.py', error='transfers.review: [red]wrong')

    assert 'error: folder/bad.py: transfers.review: [red]wrong' in show(check)


def test_a_status_for_each_outcome():
    checks = [make_check(), make_check(missing=['x']), ConfigCheck('bad.py', error='y')]

    assert [status_of(check) for check in checks] == ['ready', 'incomplete', 'broken']
    line = summarise_checks(checks).plain
    assert line == '3 configs: 1 ready, 1 incomplete, 1 broken: bad.py'
    assert status_of(make_check(downloads=['x'])) == 'ready'


def test_records_are_json():
    (record,) = json.loads(json.dumps(checks_as_records([make_check(missing=['x'])])))

    assert record['status'] == 'incomplete'
    assert record['networks']['student']['flops'] == 238_990_000_000
    assert record['transfers']['review']['shapes']['connected'] == [[16, 4, 6]]
