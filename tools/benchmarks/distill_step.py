"""Time a distillation step against its parts, and each setting of speed on and off.

All rows of a pair's table run in turn, round by round, in one process. Weights are random and
the data are generated: nothing is downloaded. With a learning rate of 0 every round repeats the
same step. `x yardstick` compares ABF + HCL with their textbook form, and whole steps with the sum
of the student's step, the teacher's features and the textbook form.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

# oneDNN keeps 1,024 kernels: with more, a row would pay for those that the others pushed out.
os.environ.setdefault('ONEDNN_PRIMITIVE_CACHE_CAPACITY', '65536')

import torch
from rich.console import Console

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from step_benchmark.measure import describe_machine, measure_job, measure_processes, progress
from step_benchmark.models import load_pair, quiet
from step_benchmark.report import describe, make_table, write_json, write_markdown
from step_benchmark.rows import PAIRS, ROWS, STEP_DEFAULTS, STUDENT, Job, Kind, select_rows

from reviewkd_mm import cli

OUT = Path('work_dirs', 'benchmarks', 'distill_step.json')
WIDTH = 110  # Of a table, in characters.


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a positive integer')
    return int(text)


def _build_parser() -> argparse.ArgumentParser:
    meanings = '\n'.join(f'  {row.name}: {row.meaning}' for row in ROWS)
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f'rows of a table:\n{meanings}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pairs = parser.add_mutually_exclusive_group()
    pairs.add_argument(
        '--pairs', nargs='+', choices=PAIRS, help='some of the pairs (default: all)'
    )
    pairs.add_argument('--config', help="a distiller's config instead, at 416 px and batch 2")
    count = partial(parser.add_argument, type=_positive, metavar='N')
    each = "a table for each number (default: the pair's)"
    count('--image-sizes', nargs='+', help=f'pixels a side, {each}')
    count('--batch-sizes', nargs='+', help=f'images a step, {each}')
    count(
        '--processes',
        nargs='+',
        help="instead the student's and the distilled step in N processes that average gradients",
    )
    count('--rounds', default=5, help='that count (default: 5)')
    count('--threads', help="torch's, a process (default: its choice)")
    parser.add_argument(
        '--rows', nargs='+', default=[], metavar='PATTERN', help="some rows, such as 'step:*'"
    )
    parser.add_argument(
        '--no-compile', action='store_true', help='no rows that compile, which takes minutes'
    )
    parser.add_argument(
        '--memory', action='store_true', help='peak memory too, in a process for each row'
    )
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument(
        '--json', type=Path, default=OUT, metavar='FILE', help='results (default: %(default)s)'
    )
    parser.add_argument('--markdown', type=Path, metavar='FILE', help='tables for a page')
    return parser


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; ``rows`` are :class:`Row` in what it returns."""
    parser = _build_parser()
    args = parser.parse_args(argv)
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda: torch finds no GPU')
    if args.device == 'cuda' and max(args.processes or [1]) > torch.cuda.device_count():
        parser.error(f'--processes: there are {torch.cuda.device_count()} GPUs, one for each')
    if args.processes and args.memory:
        parser.error('--memory: expected without --processes')
    patterns = args.rows or ([STUDENT, STEP_DEFAULTS] if args.processes else [])
    kinds = (Kind.STUDENT, Kind.STEP) if args.processes else Kind
    try:
        args.rows = select_rows(patterns, compiled=not args.no_compile, kinds=kinds)
    except ValueError as error:
        parser.error(str(error))
    return args


def plan_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Yield what the tables measure: every pair at every size.

    Args:
        args (argparse.Namespace): Of :func:`parse_args`.
    """
    jobs = [PAIRS[name] for name in args.pairs or PAIRS]
    if args.config:
        load_pair(args.config)  # What is no distiller's is found before processes start.
        jobs = [Job(Path(args.config).stem, args.config)]
    for job in jobs:
        sizes = product(args.image_sizes or [job.image_size], args.batch_sizes or [job.batch_size])
        for image_size, batch_size in sizes:
            yield replace(
                job,
                image_size=image_size,
                batch_size=batch_size,
                device=args.device,
                threads=args.threads,
                rounds=args.rounds,
            )


def measure_all(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a table after another.

    Args:
        args (argparse.Namespace): Of :func:`parse_args`.
    """
    for job in plan_jobs(args):
        progress(f'{job.pair}: {job.batch_size} images of {job.image_size} px')
        if not args.processes:
            yield measure_job(job, args.rows, args.memory)
        for processes in args.processes or ():
            yield measure_processes(job, args.rows, processes)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and print and write each table when it is done."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    machine = describe_machine(args.device)
    settings = dict(rounds=args.rounds, threads=args.threads, device=args.device)
    caption = describe(machine, args.rounds)
    tables, console = [], Console()
    console.width = max(console.width, WIDTH)
    with cli.readable_errors(), quiet():
        for table in measure_all(args):
            tables.append(table)
            console.print(make_table(table, caption))
            write_json(args.json, dict(machine=machine, settings=settings, tables=tables))
            if args.markdown:
                write_markdown(args.markdown, tables, caption)


if __name__ == '__main__':
    main()
