"""Draw how trainings went: their metric, every loss, and each transfer's share of the task loss.

All of them share one picture, each in a colour of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# A checkout reads with its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reviewkd_mm import cli
from reviewkd_mm.runs import write_curves


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'work_dirs',
        nargs='+',
        metavar='WORK_DIR',
        help='folders of trainings, or folders that hold them',
    )
    parser.add_argument('--out', required=True, metavar='FILE.png', help='the picture')
    return parser.parse_args()


def main() -> None:
    """Draw the picture."""
    args = parse_args()
    with cli.readable_errors():
        write_curves(args.work_dirs, args.out)
        print(f'drawn into {args.out}')


if __name__ == '__main__':
    main()
