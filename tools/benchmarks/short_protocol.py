"""Train configs with several seeds, one training after another, and keep a table of the results.

Started again, it leaves finished trainings alone and goes on with interrupted ones. A training
that fails is named, and the others are run. Several may work on one folder at the same time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# A checkout trains with its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reviewkd_mm import cli
from reviewkd_mm.runs import Queue, find_runs, plan_jobs, write_results

TRAIN_SCRIPT = Path(__file__).resolve().parents[1] / 'train.py'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'configs',
        nargs='+',
        metavar='CONFIG',
        help='config files, in the order of their trainings',
    )
    parser.add_argument(
        '--seeds',
        nargs='+',
        type=int,
        default=[0, 1, 2],
        metavar='SEED',
        help='seeds of each config (default: 0 1 2)',
    )
    parser.add_argument(
        '--work-dir',
        default='work_dirs/short_protocol',
        metavar='DIR',
        help='folder of the trainings, CONFIG_seedSEED each, and of the table '
        '(default: %(default)s)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='change keys of every config, such as train_cfg.max_epochs=20',
    )
    parser.add_argument('--train-script', type=Path, default=TRAIN_SCRIPT, help=argparse.SUPPRESS)
    return parser.parse_args()


def report(work_dir: str) -> None:
    """Write the table of what was run so far; what goes wrong there stops no training."""
    try:
        if find_runs([work_dir])[0]:
            write_results([work_dir], work_dir)
    except Exception as error:  # Such as a full disk, or a metafile that is being edited.
        print(f'{work_dir}: the table was not written: {error}', file=sys.stderr)


def main() -> None:
    """Run the queue and exit with its status."""
    args = parse_args()
    with cli.readable_errors():
        for config in args.configs:
            cli.load_config(config)  # A wrong path is found before hours of other trainings.
        jobs = plan_jobs(args.configs, args.seeds, args.work_dir, args.cfg_options)
        queue = Queue(jobs, args.train_script, lambda: report(args.work_dir))
        sys.exit(queue.run())


if __name__ == '__main__':
    main()
