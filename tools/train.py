"""Train a model: a distiller, or a student or teacher alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

# A checkout trains with its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from reviewkd_mm import cli
from reviewkd_mm.config import check_classes


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of the config file')
    parser.add_argument(
        '--work-dir', help='folder of logs and checkpoints (default: work_dirs/CONFIG)'
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from CHECKPOINT or, without a value, from the last one in the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on CUDA, bfloat16 on a CPU'
    )
    parser.add_argument(
        '--check-teacher',
        type=int,
        metavar='N',
        help='first evaluate the teacher on N batches of the validation data',
    )
    parser.add_argument('--no-validate', action='store_true', help='train without evaluating')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument('--no-pin-memory', action='store_true', help='do not pin memory')
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='start the dataloader workers anew in each epoch',
    )
    return cli.parse_runner_args(parser)


def merge_args(cfg: Config, args: argparse.Namespace) -> Config:
    """Change the config as the options say; they win over --cfg-options and the file."""
    cli.set_launcher(cfg, args.launcher)
    cli.set_work_dir(cfg, args.config, args.work_dir)
    cli.set_resume(cfg, args.resume)
    cli.set_dataloaders(cfg, not args.no_pin_memory, not args.no_persistent_workers)
    if args.no_validate:
        cli.disable_validation(cfg)
    if args.check_teacher is not None:
        cli.check_teacher(cfg, args.check_teacher)
    if args.amp:
        cli.enable_amp(cfg)
    if args.auto_scale_lr:
        cli.enable_auto_scale_lr(cfg)
    cli.adapt_optim_wrapper(cfg)
    return cfg


def main() -> None:
    """Build the runner and train."""
    args = parse_args()
    with cli.readable_errors(), cli.guard_loading(args.trust_checkpoint):
        cfg = merge_args(cli.load_config(args.config, args.cfg_options), args)
        cli.check_before_training(cfg)
        check_classes(cfg)
        with cli.name_lost_data(cfg):
            runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
            cli.build_optim_wrapper(runner)
            runner.train()


if __name__ == '__main__':
    main()
