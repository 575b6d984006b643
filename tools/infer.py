"""Draw what a student finds in images, from its distiller's checkpoint or an exported one.

Detectors draw boxes and masks, classifiers the class and its score, segmenters colour the pixels.
Only the student is built: no teacher, and nothing of it is downloaded.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmcv
from mmengine.config import DictAction

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reviewkd_mm import cli
from reviewkd_mm.inference import build_predictor


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config of a distiller's training, or of any model")
    parser.add_argument('checkpoint', help='a checkpoint of that training, or an exported student')
    parser.add_argument(
        'images', nargs='+', metavar='IMAGE', help='files, folders, or patterns in quotes'
    )
    parser.add_argument(
        '--out-dir',
        default='work_dirs/infer',
        metavar='DIR',
        help='folder of the drawn images (default: %(default)s)',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        metavar='SCORE',
        help='show objects that score more than this, 0 to 1 (default: %(default)s)',
    )
    parser.add_argument('--device', help="such as cpu or cuda:0 (default: MMEngine's choice)")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change keys of the config, such as model.student.bbox_head.num_classes=3',
    )
    cli.add_trust_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Predict, draw, and print a line for each image."""
    args = parse_args()
    with cli.readable_errors(), cli.guard_loading(args.trust_checkpoint):
        cfg = cli.load_config(args.config, args.cfg_options)
        images = cli.find_images(args.images)
        drawings = cli.name_drawings(images, args.out_dir)
        predictor = build_predictor(cfg, args.checkpoint, args.device)
        for image, file in zip(images, drawings, strict=True):
            found, drawing = predictor.predict(image, args.score_thr)
            mmcv.imwrite(drawing[..., ::-1], str(file))
            print(f'{image}: {found} -> {file}', flush=True)


if __name__ == '__main__':
    main()
