"""Evaluate a student, from the checkpoint of its distiller or from an exported one.

Only the student is built: no teacher, and nothing of it is downloaded.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import mmengine
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reviewkd_mm import cli
from reviewkd_mm.export.student import student_config
from reviewkd_mm.models.distillers.checkpoint import load_weights


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help="config of a distiller's training, or of any model")
    parser.add_argument('checkpoint', help='a checkpoint of that training, or an exported student')
    parser.add_argument('--work-dir', help='folder of the log (default: work_dirs/CONFIG)')
    parser.add_argument('--out', metavar='FILE', help='write the metrics to a .json or .yml file')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: merge the predictions on several views of an image by '
        "the config's tta_pipeline and tta_model (default: the image and its mirror image)",
    )
    return cli.parse_runner_args(parser)


def build_runner(args: argparse.Namespace) -> Runner:
    """Build a runner whose model is the student, with the checkpoint's weights."""
    cfg = student_config(cli.load_config(args.config, args.cfg_options))
    cli.set_launcher(cfg, args.launcher)
    cli.set_work_dir(cfg, args.config, args.work_dir)
    cli.set_dataloaders(cfg)
    if args.tta:
        cli.enable_tta(cfg)
    # Nothing trains: the training data need not be there.
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg.pop(key, None)
    runner = Runner.from_cfg(cfg)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if isinstance(model, BaseTTAModel):
        model = model.module
    load_weights(model, args.checkpoint, 'checkpoint')
    return runner


def main() -> None:
    """Evaluate and write the metrics."""
    args = parse_args()
    with cli.readable_errors(), cli.guard_loading(args.trust_checkpoint):
        metrics = build_runner(args).test()
    if args.out:
        mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    main()
