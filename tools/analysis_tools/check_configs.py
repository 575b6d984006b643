"""Check configs before a long training: what is built, what it costs, and what is missing.

Each config's model is built as the training would build it. Nothing is downloaded and no
teacher's checkpoint is needed. The exit code is 1 if a config is broken.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmengine
from mmengine.config import DictAction
from rich.console import Console

# A checkout checks with its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reviewkd_mm import cli

# Of the report where it does not go to a terminal.
WIDTH = 120


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'configs',
        nargs='*',
        metavar='CONFIG',
        help='paths of config files (default: all of configs/ but _base_)',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='height and width of the image that is measured (default: what the data pipelines '
        'say)',
    )
    parser.add_argument(
        '--no-flops',
        action='store_true',
        help='do not count FLOPs, for which each network is run once',
    )
    parser.add_argument(
        '--strict',
        action='store_true',
        help='exit with 1 also where data, a checkpoint or a package is missing; what a training '
        'downloads by itself is not',
    )
    parser.add_argument('--json', metavar='FILE', help='write what was found to a JSON file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change keys of every config, such as model.teacher_ckpt=checkpoints/teacher.pth',
    )
    args = parser.parse_args()
    if args.image_size and min(args.image_size) < 1:
        parser.error(f'--image-size: expected positive numbers, got {args.image_size}')
    return args


def main() -> None:
    """Check the configs one by one, print what was found, and exit."""
    args = parse_args()
    console, checks = Console(), []
    if not console.is_terminal:
        console.width = WIDTH
    size = tuple(args.image_size) if args.image_size else None
    for config in args.configs or cli.find_configs():
        checks.append(cli.check_config(config, args.cfg_options, size, not args.no_flops))
        console.print(cli.render_check(checks[-1]), '')
    if len(checks) > 1:
        console.print(cli.summarise_checks(checks))
    if args.json:
        mmengine.dump(cli.checks_as_records(checks), args.json, file_format='json', indent=2)
    failures = ('broken', 'incomplete') if args.strict else ('broken',)
    sys.exit(int(any(cli.status_of(check) in failures for check in checks)))


if __name__ == '__main__':
    main()
