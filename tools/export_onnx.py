"""Export a student, from its distiller's checkpoint or its own, as an ONNX file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reviewkd_mm import cli
from reviewkd_mm.checks.image_size import padded_image_size
from reviewkd_mm.export.onnx import export_onnx


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config of a distiller's training, or of any model")
    parser.add_argument('checkpoint', help='a checkpoint of that training, or an exported student')
    parser.add_argument('out', help='where the ONNX file goes')
    parser.add_argument(
        '--image-size',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of the images (default: that of the config's validation)",
    )
    parser.add_argument(
        '--batch-size', type=int, metavar='N', help='fix the images in a batch (default: any)'
    )
    parser.add_argument(
        '--free-size', action='store_true', help='leave height and width of the images open'
    )
    cli.add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Export and say what was written."""
    args = parse_args()
    with cli.readable_errors(), cli.guard_loading(args.trust_checkpoint):
        cfg = cli.load_config(args.config)
        size = tuple(args.image_size) if args.image_size else padded_image_size(cfg)
        file = export_onnx(cfg, args.checkpoint, args.out, size, args.batch_size, args.free_size)
    print(
        f'ONNX file:  {file.path}\nholds:      {file.part}\ninput:      images {file.shape}\n'
        f'outputs:    {", ".join(file.outputs)}\n'
        f'difference: {file.difference:.1e} between ONNX Runtime and PyTorch'
    )


if __name__ == '__main__':
    main()
