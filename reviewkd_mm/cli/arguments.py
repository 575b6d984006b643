"""The command-line arguments that every tool with a Runner takes."""

from __future__ import annotations

import argparse
import os

from mmengine.config import DictAction


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option of every tool that reads checkpoints.

    Args:
        parser (argparse.ArgumentParser): The tool's parser, changed in place.
    """
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='read checkpoints that hold more than tensors and plain values, which runs code that '
        'is in them (default: refuse them)',
    )


def parse_runner_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Add the arguments of every Runner to a parser and read the command line.

    Args:
        parser (argparse.ArgumentParser): A parser with the tool's own arguments.

    Returns:
        argparse.Namespace: The arguments.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change keys of the config, such as train_cfg.max_epochs=2 or key="[1,2]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run were started',
    )
    add_trust_argument(parser)
    # torch.distributed.launch passes it, in either spelling; torchrun sets the variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args
