"""Write what trainings measured, beside what is published: a table and a picture of bars.

Finished, interrupted and running trainings are read from their logs. A cell is empty where nothing
was measured or published.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# A checkout reads with its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reviewkd_mm import cli
from reviewkd_mm.runs import write_results


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'work_dirs',
        nargs='+',
        metavar='WORK_DIR',
        help='folders of trainings, or folders that hold them',
    )
    parser.add_argument(
        '--out',
        default='work_dirs/results',
        metavar='DIR',
        help='folder of results.md, results.csv and results.png (default: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    """Write the files and print the table."""
    args = parse_args()
    with cli.readable_errors():
        print(write_results(args.work_dirs, args.out))
        print(f'written to {args.out}')


if __name__ == '__main__':
    main()
