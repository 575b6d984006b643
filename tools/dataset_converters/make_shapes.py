"""Draw a data set of shapes with boxes and masks in COCO format: detection without a download.

Example:
    python tools/dataset_converters/make_shapes.py data/shapes
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# A checkout draws with its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reviewkd_mm import cli
from reviewkd_mm.datasets.shapes import write_shapes


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, metavar='OUT', help='a new or an empty folder')
    parser.add_argument(
        '--num-train', type=int, default=400, help='training images (default: %(default)s)'
    )
    parser.add_argument(
        '--num-val', type=int, default=100, help='validation images (default: %(default)s)'
    )
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=(96, 96),
        metavar=('HEIGHT', 'WIDTH'),
        help='in pixels (default: 96 96)',
    )
    parser.add_argument('--seed', type=int, default=0, help='(default: %(default)s)')
    return parser.parse_args()


def main() -> None:
    """Write the data set and say where it is."""
    args = parse_args()
    with cli.readable_errors():
        folder = write_shapes(
            args.out,
            num_train=args.num_train,
            num_val=args.num_val,
            image_size=tuple(args.image_size),
            seed=args.seed,
        )
    height, width = args.image_size
    print(f'{folder}: {args.num_train} + {args.num_val} images of {height}x{width}')


if __name__ == '__main__':
    main()
