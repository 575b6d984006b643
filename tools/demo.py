"""Distil a small classifier and a small detector in minutes.

For each a teacher, a student alone, and the student by ReviewKD are trained by tools/train.py on
ordinary configs. The data are real digits that ship with scikit-learn, and shapes that are drawn
here: nothing is downloaded. What was measured is printed as tables, and the training curves are
drawn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib
from rich.console import Console
from rich.table import Table

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
matplotlib.use('Agg')  # There may be no screen.

import matplotlib.pyplot as plt
from demo_runs import ROOT, Metric, Task, Trainings, train_all

from reviewkd_mm.datasets.shapes import write_shapes

COLOURS = ('tab:gray', 'tab:blue', 'tab:red')
DIGITS = Task(
    title='Digits',
    teacher='ResNet-20',
    student='ResNet-8',
    configs=(
        'baselines/resnet20_digits.py',
        'baselines/resnet8_digits.py',
        'reviewkd/resnet20_resnet8_digits.py',
    ),
    metrics=(Metric('accuracy (%)', 'accuracy/top1'),),
    seeds=3,
)
SHAPES = Task(
    title='Shapes',
    teacher='Mask R-CNN',
    student='thin Mask R-CNN',
    configs=(
        'baselines/mask-rcnn_r18_shapes.py',
        'baselines/mask-rcnn_r18-thin_shapes.py',
        'reviewkd/mask-rcnn_r18_r18-thin_shapes.py',
    ),
    metrics=(
        Metric('box AP', 'coco/bbox_mAP', factor=100),
        Metric('mask AP', 'coco/segm_mAP', factor=100),
    ),
    seeds=1,
)


def print_table(task: Task, plan: Trainings) -> None:
    """Print parameters and metrics as measured.

    Args:
        task (Task): The task.
        plan (Trainings): Its finished runs.
    """
    table = Table(title=f'{task.title}: after the last epoch')
    for column in ('model', 'parameters', *(metric.name for metric in task.metrics), 'runs'):
        table.add_column(column, justify='left' if column == 'model' else 'right')
    for name, runs in plan.by_name().items():
        values = [_summarise([run.last(metric) for run in runs]) for metric in task.metrics]
        table.add_row(name, f'{runs[0].parameters():,}', *values, str(len(runs)))
    Console().print(table)


def _summarise(values: list[float]) -> str:
    spread = f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.1f}{spread}'


def draw_curves(results: dict[Task, Trainings], file: Path) -> None:
    """Draw every metric of every run over its epochs.

    Args:
        results (dict[Task, Trainings]): The finished runs.
        file (Path): The picture, a PNG.
    """
    panels = [(task, metric) for task in results for metric in task.metrics]
    figure, row = plt.subplots(1, len(panels), figsize=(5 * len(panels), 4), layout='constrained')
    for axes, (task, metric) in zip(row, panels, strict=True):
        for colour, (name, runs) in zip(COLOURS, results[task].by_name().items(), strict=True):
            for index, run in enumerate(runs):
                curve = run.curve(metric)
                label = name if index == 0 else None
                axes.plot([*curve], [*curve.values()], color=colour, label=label, alpha=0.8)
        axes.set(xlabel='epoch', ylabel=metric.name, title=f'ReviewKD on {task.title.lower()}')
        axes.grid(alpha=0.3)
        axes.legend(loc='lower right')
    figure.savefig(file, dpi=150)


def main() -> None:
    """Train, print the tables and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--seeds',
        type=int,
        help=f'runs of each student (default: {DIGITS.seeds} of the classifier, {SHAPES.seeds} of '
        'the detector)',
    )
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs' / 'demo', help='results')
    args = parser.parse_args()
    start, out = time.perf_counter(), args.out.resolve()
    print(f'Drawing shapes into {out / "data" / "shapes"}', flush=True)
    data = write_shapes(out / 'data' / 'shapes')
    digits, shapes = (replace(task, seeds=args.seeds or task.seeds) for task in (DIGITS, SHAPES))
    plans = {
        digits: Trainings.plan(digits, out),
        shapes: Trainings.plan(shapes, out, (f'coco_data.data_root={data}/',)),
    }
    print('Training teachers, and students alone and by ReviewKD, two at a time:', flush=True)
    # The detectors go first: they take longest, and so neither core is idle at the end.
    train_all([plans[shapes], plans[digits]])
    for task, plan in plans.items():
        print_table(task, plan)
    draw_curves(plans, out / 'curves.png')
    print(f'training curves: {out / "curves.png"}')
    print(f'took {time.perf_counter() - start:.0f} s')


if __name__ == '__main__':
    main()
