"""Export the student of a distiller's checkpoint as an ordinary checkpoint with its own config."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reviewkd_mm import cli
from reviewkd_mm.export.student import export_student


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='the config that the distiller was trained with')
    parser.add_argument('checkpoint', help='a checkpoint of that training')
    parser.add_argument(
        'out', help='where the checkpoint goes; its config goes beside it, with the suffix .py'
    )
    cli.add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Export and say where to."""
    args = parse_args()
    with cli.readable_errors(), cli.guard_loading(args.trust_checkpoint):
        out, config = export_student(cli.load_config(args.config), args.checkpoint, args.out)
    print(f'checkpoint: {out}\nconfig:     {config}')


if __name__ == '__main__':
    main()
