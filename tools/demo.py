"""Distil a small classifier in minutes: a teacher, a student alone, and the student by ReviewKD.

Runs tools/train.py on ordinary configs and real digits that ship with scikit-learn, then prints
what was measured as a table and draws the training curves. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from rich.console import Console
from rich.table import Table

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
matplotlib.use('Agg')  # There may be no screen.

import matplotlib.pyplot as plt

from reviewkd_mm.config import read_config
from reviewkd_mm.engine.student_export import build_student, student_config

ROOT = Path(__file__).resolve().parents[1]
TEACHER = 'baselines/resnet20_digits.py'
STUDENT = 'baselines/resnet8_digits.py'
REVIEWKD = 'reviewkd/resnet20_resnet8_digits.py'
METRIC = 'accuracy/top1'


@dataclass
class Run:
    """One training.

    Args:
        name (str): What it is called in the table and the picture.
        config (str): Path of its config below ``configs``.
        seed (int): The seed.
        work_dir (Path): Where its logs and checkpoints go.
        teacher_ckpt (Path, optional): The teacher's checkpoint. Defaults to None.
    """

    name: str
    config: str
    seed: int
    work_dir: Path
    teacher_ckpt: Path | None = None

    def train(self) -> None:
        """Train in a process of its own.

        Raises:
            SystemExit: If the training fails, with the end of its output.
        """
        options = [f'randomness.seed={self.seed}']
        if self.teacher_ckpt is not None:
            options.append(f'model.teacher_ckpt={self.teacher_ckpt}')
        command = [sys.executable, 'tools/train.py', f'configs/{self.config}']
        command += ['--work-dir', str(self.work_dir), '--cfg-options', *options]
        # One thread each: two trainings share two cores without waiting for each other.
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f'{" ".join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}')
        seconds = time.perf_counter() - start
        accuracy = f'{self.curve()[-1]:.1f} %'
        print(f'  {self.name}, seed {self.seed}: {accuracy} ({seconds:.0f} s)', flush=True)

    def curve(self) -> list[float]:
        """Return the test accuracy after each epoch, in percent, from the training's own log."""
        log = max(self.work_dir.glob('*/vis_data/scalars.json'))
        records = [json.loads(line) for line in log.read_text().splitlines()]
        return [record[METRIC] for record in records if METRIC in record]

    def parameters(self) -> int:
        """Return the number of parameters of the model that is left to use."""
        cfg = student_config(read_config(ROOT / 'configs' / self.config))
        return sum(p.numel() for p in build_student(cfg).parameters())


def train_all(seeds: int, out: Path) -> dict[str, list[Run]]:
    """Train the teacher once, and the student with each seed, alone and by ReviewKD.

    Args:
        seeds (int): Number of seeds, from 0.
        out (Path): Folder of the results.

    Returns:
        dict[str, list[Run]]: The finished runs by name.
    """
    teacher = Run('ResNet-20, the teacher', TEACHER, 0, out / 'teacher')
    alone = [Run('ResNet-8 alone', STUDENT, seed, out / f'alone_{seed}') for seed in range(seeds)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        taught, *futures = [pool.submit(run.train) for run in (teacher, *alone)]
        taught.result()
        checkpoint = teacher.work_dir / (teacher.work_dir / 'last_checkpoint').read_text()
        review = [
            Run('ResNet-8 by ReviewKD', REVIEWKD, seed, out / f'review_{seed}', checkpoint)
            for seed in range(seeds)
        ]
        for future in [*futures, *(pool.submit(run.train) for run in review)]:
            future.result()
    return {runs[0].name: runs for runs in ([teacher], alone, review)}


def print_table(results: dict[str, list[Run]]) -> None:
    """Print parameters and accuracies as measured.

    Args:
        results (dict[str, list[Run]]): Runs by name.
    """
    table = Table(title='Digits: test accuracy after the last epoch')
    for column in ('model', 'parameters', 'accuracy (%)', 'runs'):
        table.add_column(column, justify='left' if column == 'model' else 'right')
    for name, runs in results.items():
        last = [run.curve()[-1] for run in runs]
        spread = f' ± {statistics.stdev(last):.1f}' if len(last) > 1 else ''
        accuracy = f'{statistics.mean(last):.1f}{spread}'
        table.add_row(name, f'{runs[0].parameters():,}', accuracy, str(len(runs)))
    Console().print(table)


def draw_curves(results: dict[str, list[Run]], file: Path) -> None:
    """Draw the accuracy of every run over its epochs.

    Args:
        results (dict[str, list[Run]]): Runs by name.
        file (Path): The picture, a PNG.
    """
    figure, axes = plt.subplots(figsize=(7, 4.5), layout='constrained')
    for colour, (name, runs) in zip(
        ('tab:gray', 'tab:blue', 'tab:red'), results.items(), strict=True
    ):
        for index, run in enumerate(runs):
            curve = run.curve()
            label = name if index == 0 else None
            axes.plot(range(1, len(curve) + 1), curve, color=colour, label=label, alpha=0.8)
    axes.set(xlabel='epoch', ylabel='test accuracy (%)', title='ReviewKD on digits')
    axes.grid(alpha=0.3)
    axes.legend(loc='lower right')
    figure.savefig(file, dpi=150)


def main() -> None:
    """Train, print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=3, help='runs of each student (default: 3)')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'demo', help='results')
    args = parser.parse_args()
    start, out = time.perf_counter(), args.out.resolve()
    print(f'Training a teacher, and a student alone and by ReviewKD with {args.seeds} seeds:')
    results = train_all(args.seeds, out)
    print_table(results)
    draw_curves(results, out / 'curves.png')
    print(f'training curves: {out / "curves.png"}')
    print(f'took {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    main()
