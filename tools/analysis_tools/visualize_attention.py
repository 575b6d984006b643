"""Show what a student reviews: attention and features, stage by stage, of student and teacher.

For each image a figure: the image, and a row per stage with ABF's two attention maps, the
student's feature, what the connector makes of it, and the teacher's feature. The teacher is built,
so that its checkpoint (model.teacher_ckpt) must be there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reviewkd_mm import cli
from reviewkd_mm.inference.attention_figure import draw_review
from reviewkd_mm.inference.attention_reader import ReviewReader


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config of a ReviewKD distiller's training")
    parser.add_argument('checkpoint', help='a checkpoint of that training, no exported student')
    parser.add_argument(
        'images', nargs='+', metavar='IMAGE', help='files, folders, or patterns in quotes'
    )
    parser.add_argument(
        '--out-dir',
        default='work_dirs/attention',
        metavar='DIR',
        help='folder of the figures (default: %(default)s)',
    )
    parser.add_argument(
        '--transfer',
        metavar='NAME',
        help='a transfer with a ReviewConnector (default: the first one that has it)',
    )
    parser.add_argument(
        '--before',
        metavar='CHECKPOINT',
        help="show the student's features by this checkpoint too: an undistilled student, or an "
        'earlier checkpoint of it or of its distiller',
    )
    parser.add_argument('--device', help="such as cpu or cuda:0 (default: MMEngine's choice)")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change keys of the config, such as model.teacher_ckpt=teacher.pth',
    )
    cli.add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Read, draw, and print a line for each image."""
    args = parse_args()
    with cli.readable_errors(), cli.guard_loading(args.trust_checkpoint):
        cfg = cli.load_config(args.config, args.cfg_options)
        images = cli.find_images(args.images)
        figures = cli.name_drawings(images, args.out_dir)
        reader = ReviewReader(cfg, args.checkpoint, args.transfer, args.before, args.device)
        for image, file in zip(images, figures, strict=True):
            review = reader.read(image)
            file.parent.mkdir(parents=True, exist_ok=True)
            draw_review(review, image.name).savefig(file)
            print(f'{image}: {review.found} -> {file}', flush=True)


if __name__ == '__main__':
    main()
