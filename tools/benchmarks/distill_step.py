"""Time a distillation step against its parts, and each setting of speed on and off.

All rows of a pair's table run in turn, round by round, in one process. Weights are random and
the data are generated: nothing is downloaded. With a learning rate of 0 every round repeats the
same step. `x yardstick` compares ABF + HCL with their textbook form, and whole steps with the sum
of the student's step, the teacher's features and the textbook form.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path

# oneDNN keeps 1,024 kernels: with more, a row would pay for those that the others pushed out.
os.environ.setdefault('ONEDNN_PRIMITIVE_CACHE_CAPACITY', '65536')

import torch
from rich.console import Console

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from step_machine import describe_machine, has_bf16
from step_memory import measure_peak
from step_models import load_pair, quiet
from step_pairs import PAIRS, Job, own_pair
from step_processes import measure_processes
from step_report import describe, make_table, write_json, write_markdown
from step_results import Results, summarize
from step_rows import ROWS, STEP_DEFAULTS, STUDENT, Kind, Row, applicable, select_rows
from step_runs import Runs
from step_timing import measure

from reviewkd_mm import cli

OUT = Path('work_dirs', 'benchmarks', 'distill_step.json')
STEPS = (Kind.STUDENT, Kind.STEP)
# What torch.compile may compile of the same code, here for many models.
GRAPHS = 64
KERNELS = 2**14
WIDTH = 110  # Of a table, in characters.


def plan_jobs(args: argparse.Namespace) -> Iterator[Job]:
    """Yield what each table measures: every pair at every size.

    Args:
        args (argparse.Namespace): Of :func:`parse_args`.
    """
    pairs = [PAIRS[name] for name in args.pairs or PAIRS]
    for pair in [own_pair(args.config)] if args.config else pairs:
        images = args.image_sizes or [pair.image_size]
        batches = args.batch_sizes or [pair.batch_size]
        for image_size, batch_size in product(images, batches):
            yield Job(
                pair.name,
                str(pair.config),
                image_size,
                batch_size,
                device=args.device,
                threads=args.threads,
                rounds=args.rounds,
            )


def measure_job(job: Job, rows: Sequence[Row], memory: bool = False) -> Results:
    """Measure the rows of a table in turn, in this process.

    Args:
        job (Job): What is measured.
        rows (Sequence[Row]): The rows, those included that this pair or machine has not.
        memory (bool): Whether to measure their peak memory too, each in a process of its own.
            Defaults to False.
    """
    runs = Runs(job)
    rows = applicable(rows, runs.is_detector, job.device)
    timed = [row for row in rows if _is_timed(row, job.device)]
    calls = {row.name: runs.build(row) for row in timed}
    with _fresh_compiler() if any(row.compiled for row in timed) else nullcontext():
        timings = measure(calls, job.rounds, report=_report)
    notes = {row.name: 'fell back to eager' for row in timed if runs.fell_back(row)}
    peaks = {}
    if memory:
        del runs, calls
        gc.collect()  # The processes need what they held.
        peaks = {row.name: measure_peak(job, row) for row in timed}
    return Results(job, summarize(rows, timings, peaks, notes))


@contextmanager
def _fresh_compiler() -> Iterator[None]:
    """Forget what an earlier table compiled, and let each row compile graphs of its own."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch({name_of_recompile_limit(): GRAPHS}):
        yield


def name_of_recompile_limit() -> str:
    """Return what this torch calls the greatest number of graphs of one function."""
    is_new = hasattr(torch._dynamo.config, 'recompile_limit')
    return 'recompile_limit' if is_new else 'cache_size_limit'  # until torch 2.6


def measure_growth(job: Job, rows: Sequence[Row], processes: int) -> Results:
    """Measure steps in several processes.

    Args:
        job (Job): What is measured.
        rows (Sequence[Row]): Steps.
        processes (int): Number of processes.
    """
    rows = applicable(rows, is_detector=False, device=job.device)  # Steps are the same of both.
    timed = [row for row in rows if _is_timed(row, job.device)]
    timings = measure_processes(job, timed, processes)
    return Results(job, summarize(rows, timings, {}, {}), processes)


def _is_timed(row: Row, device: str) -> bool:
    return row.kind is not Kind.SUM and (has_bf16(device) or not row.bf16)


def _report(text: str) -> None:
    print(f'  {text}', file=sys.stderr, flush=True)


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
    for name, what in (('image-size', 'pixels a side'), ('batch-size', 'images a step')):
        parser.add_argument(
            f'--{name}',
            f'--{name}s',
            dest=f'{name}s'.replace('-', '_'),
            type=_positive,
            nargs='+',
            metavar='N',
            help=f"{what}, a table for each number (default: the pair's)",
        )
    parser.add_argument(
        '--processes',
        type=_positive,
        nargs='+',
        metavar='N',
        help="instead the student's and the distilled step in N processes that average gradients",
    )
    parser.add_argument(
        '--rows', nargs='+', default=[], metavar='PATTERN', help="some rows, such as 'step:*'"
    )
    parser.add_argument(
        '--no-compile', action='store_true', help='no rows that compile, which takes minutes'
    )
    parser.add_argument(
        '--memory', action='store_true', help='peak memory too, in a process for each row'
    )
    parser.add_argument(
        '--rounds', type=_positive, default=5, metavar='N', help='that count (default: 5)'
    )
    parser.add_argument(
        '--threads', type=_positive, metavar='N', help="torch's, a process (default: its choice)"
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
    try:
        kinds = STEPS if args.processes else Kind
        args.rows = select_rows(patterns, compiled=not args.no_compile, kinds=kinds)
    except ValueError as error:
        parser.error(str(error))
    return args


def measure_all(args: argparse.Namespace) -> Iterator[Results]:
    """Yield a table after another.

    Args:
        args (argparse.Namespace): Of :func:`parse_args`.
    """
    for job in plan_jobs(args):
        for processes in args.processes or [None]:
            _report(Results(job, processes=processes).title)
            if processes is None:
                yield measure_job(job, args.rows, args.memory)
            else:
                yield measure_growth(job, args.rows, processes)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and print and write each table when it is done."""
    args = parse_args(argv)
    # Many models in one process would push each other's kernels out of oneDNN's cache.
    os.environ.setdefault('ONEDNN_PRIMITIVE_CACHE_CAPACITY', str(KERNELS))
    if args.threads:
        torch.set_num_threads(args.threads)
    machine = describe_machine(args.device)
    settings = dict(rounds=args.rounds, threads=args.threads, device=args.device)
    caption = describe(machine, args.rounds)
    tables, console = [], Console()
    console.width = max(console.width, WIDTH)
    with cli.readable_errors(), quiet():
        if args.config:
            load_pair(args.config)
        for results in measure_all(args):
            tables.append(results)
            console.print(make_table(results, caption))
            write_json(args.json, tables, machine, settings)
            if args.markdown:
                write_markdown(args.markdown, tables, caption)


if __name__ == '__main__':
    main()
