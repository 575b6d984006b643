"""The trainings of the demo: what there is to run, two at a time, and what was logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from reviewkd_mm.config import read_config
from reviewkd_mm.export.student import build_student, student_config

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Metric:
    """A number that a validation logs.

    Args:
        name (str): What it is called here.
        key (str): What it is called in the log.
        factor (float): What it is multiplied by. Defaults to 1.
    """

    name: str
    key: str
    factor: float = 1.0


@dataclass(frozen=True)
class Task:
    """A data set, a teacher and a student.

    Args:
        title (str): Name of the data set.
        teacher (str): Name of the teacher.
        student (str): Name of the student.
        configs (tuple[str, str, str]): Paths below ``configs``: of the teacher, of the student
            alone and of the student by ReviewKD.
        metrics (tuple[Metric, ...]): What is measured.
        seeds (int): Trainings of each student, with the seeds from 0.
    """

    title: str
    teacher: str
    student: str
    configs: tuple[str, str, str]
    metrics: tuple[Metric, ...]
    seeds: int


@dataclass
class Run:
    """One training.

    Args:
        name (str): What it is called in the table and the picture.
        task (Task): What it belongs to.
        config (str): Path of its config below ``configs``.
        seed (int): The seed.
        work_dir (Path): Where its logs and checkpoints go.
        options (tuple[str, ...]): Its ``--cfg-options``. Defaults to none.
    """

    name: str
    task: Task
    config: str
    seed: int
    work_dir: Path
    options: tuple[str, ...] = ()

    def train(self) -> None:
        """Train in a process of its own.

        Raises:
            SystemExit: If the training fails, with the end of its output.
        """
        command = [sys.executable, 'tools/train.py', f'configs/{self.config}']
        command += ['--work-dir', str(self.work_dir), '--cfg-options']
        command += [f'randomness.seed={self.seed}', *self.options]
        # One thread each: two trainings share two cores without waiting for each other.
        environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f'{" ".join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}')
        seconds = time.perf_counter() - start
        values = [f'{metric.name} {self.last(metric):.1f}' for metric in self.task.metrics]
        print(
            f'  {self.name}, seed {self.seed}: {", ".join(values)} ({seconds:.0f} s)', flush=True
        )

    def train_with(self, teacher: Run, taught: Future) -> None:
        """Train with a teacher, once its own training has ended.

        Args:
            teacher (Run): The teacher's run.
            taught (Future): What that run ends.
        """
        taught.result()
        checkpoint = teacher.work_dir / (teacher.work_dir / 'last_checkpoint').read_text()
        self.options += (f'model.teacher_ckpt={checkpoint}',)
        self.train()

    def curve(self, metric: Metric) -> dict[int, float]:
        """Return a metric by epoch, from the training's own log."""
        log = max(self.work_dir.glob('*/vis_data/scalars.json'))
        records = [json.loads(line) for line in log.read_text().splitlines()]
        return {
            record['step']: record[metric.key] * metric.factor
            for record in records
            if metric.key in record
        }

    def last(self, metric: Metric) -> float:
        """Return a metric after the last epoch."""
        return list(self.curve(metric).values())[-1]

    def parameters(self) -> int:
        """Return the number of parameters of the model that is left to use."""
        cfg = student_config(read_config(ROOT / 'configs' / self.config))
        return sum(p.numel() for p in build_student(cfg).parameters())


@dataclass
class Trainings:
    """The runs of a task.

    Args:
        teacher (Run): The teacher's.
        alone (list[Run]): The student's alone, one of each seed.
        review (list[Run]): The student's by ReviewKD, one of each seed.
    """

    teacher: Run
    alone: list[Run]
    review: list[Run]

    @classmethod
    def plan(cls, task: Task, out: Path, options: tuple[str, ...] = ()) -> Trainings:
        """Plan the runs of a task.

        Args:
            task (Task): The task.
            out (Path): Folder of the results.
            options (tuple[str, ...]): ``--cfg-options`` of every run. Defaults to none.
        """

        def run(name: str, config: str, seed: int, folder: str) -> Run:
            return Run(name, task, config, seed, out / task.title.lower() / folder, options)

        teacher, alone, review = task.configs
        seeds = range(task.seeds)
        return cls(
            run(f'{task.teacher}, the teacher', teacher, 0, 'teacher'),
            [run(f'{task.student} alone', alone, seed, f'alone_{seed}') for seed in seeds],
            [run(f'{task.student} by ReviewKD', review, seed, f'review_{seed}') for seed in seeds],
        )

    def by_name(self) -> dict[str, list[Run]]:
        """Return the runs in the order of the table."""
        return {runs[0].name: runs for runs in ([self.teacher], self.alone, self.review)}


def train_all(plans: list[Trainings]) -> None:
    """Train two at a time: first what needs no teacher.

    Args:
        plans (list[Trainings]): What to train.
    """
    pool = ThreadPoolExecutor(max_workers=2)
    try:
        taught, futures = [], []
        for plan in plans:
            taught.append(pool.submit(plan.teacher.train))
            futures += [pool.submit(run.train) for run in plan.alone]
        for plan, teacher in zip(plans, taught, strict=True):
            futures += [pool.submit(run.train_with, plan.teacher, teacher) for run in plan.review]
        for future in (*taught, *futures):
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)
