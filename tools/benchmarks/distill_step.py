"""Time one distillation step against its parts, side by side in one process.

The parts are the student's training step alone, the teacher's features, and the transfers
(connectors and losses) alone on features of the same shapes. What the distilled step costs beyond
their sum is the distiller's own overhead. Weights are random and the data are generated: nothing
is downloaded. With a learning rate of 0 every round repeats the same step.
"""

from __future__ import annotations

import argparse
import copy
import gc
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.table import Table
from torch import Tensor

# A checkout runs its own package, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reviewkd_mm import cli
from reviewkd_mm.config import is_distiller
from reviewkd_mm.engine.student_export import build_student, student_config
from reviewkd_mm.models.distillers import Distiller, Transfer
from reviewkd_mm.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
PAIR = ROOT / 'configs' / 'reviewkd' / 'retinanet_r101_r50_coco.py'
BOXES = 7  # An image of COCO has 7.3 on average.
WARMUP = 2  # Rounds; in the first one recorders learn what they must clone.

STUDENT, TEACHER, TRANSFERS = 'student step alone', 'teacher features', 'transfers alone'
SUM, DISTILLED, RATIO = 'sum of the three', 'distilled step', 'distilled step / sum'


@dataclass
class Timing:
    """Seconds that something took.

    Args:
        wall (float): Wall time.
        cpu (float): CPU time of all threads of the process, which other processes disturb less.
    """

    wall: float
    cpu: float


class GivenFeatures:
    """Take a recorder's place in a transfer: the same features each time.

    Args:
        features (Sequence[Tensor]): The features (N, C, H, W), shallow to deep.
    """

    def __init__(self, features: Sequence[Tensor]) -> None:
        self._features = [f.detach().requires_grad_(f.requires_grad) for f in features]

    def features(self) -> list[Tensor]:
        """Return the features, which are leaves of the graph."""
        return self._features


def build_pair(cfg: Config, device: str) -> tuple[Distiller, BaseModel]:
    """Build a distiller with random weights, and its student once more, alone.

    Args:
        cfg (Config): The distiller's training config.
        device (str): Where both are put, in training mode.

    Returns:
        tuple[Distiller, BaseModel]: The distiller, and an ordinary model with the weights of its
        student.
    """
    student = build_student(student_config(cfg))
    model = copy.deepcopy(cfg.model)
    # Without init_weights() the student loads no Pretrained weights either.
    model.teacher_ckpt = 'random'
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        distiller = MODELS.build(model)
    student.load_state_dict(distiller.student.state_dict())
    return distiller.to(device).train(), student.to(device).train()


def generate_batch(model: BaseModel, batch_size: int, image_size: int) -> dict[str, Any]:
    """Generate what a dataloader would give: square uint8 images with boxes and masks, or labels.

    Args:
        model (BaseModel): The student, a classifier or a detector.
        batch_size (int): Number of images.
        image_size (int): Height and width in pixels.

    Returns:
        dict: ``inputs`` and ``data_samples``.
    """
    if type(model).__module__.startswith('mmpretrain.'):
        from mmpretrain.structures import DataSample

        images = torch.randint(256, (batch_size, 3, image_size, image_size), dtype=torch.uint8)
        return dict(
            inputs=images, data_samples=[DataSample().set_gt_label(0) for _ in range(batch_size)]
        )
    from mmdet.testing import demo_mm_inputs

    shape = (3, image_size, image_size)
    batch = demo_mm_inputs(batch_size, shape, num_items=[BOXES] * batch_size, with_mask=True)
    for sample in batch['data_samples']:
        sample.gt_instances.labels.zero_()  # The one class that every detector has.
    return batch


def build_parts(
    distiller: Distiller, student: BaseModel, batch: dict[str, Any]
) -> dict[str, Callable[[], object]]:
    """Return the distilled step and its parts by name, ready to be called again and again.

    Both steps are MMEngine's ``train_step``: data_preprocessor, losses, backward and the update
    of every parameter that trains. The transfers alone are forward and backward without an update.

    Args:
        distiller (Distiller): The distiller.
        student (BaseModel): Its student alone.
        batch (dict): A batch as a dataloader gives it.
    """
    data = distiller.data_preprocessor(batch, True)
    inputs, samples = data['inputs'], data['data_samples']
    transfers = [_detach(distiller, name, inputs, samples) for name in distiller.transfers]
    optimizers = {model: _build_optimizer(model) for model in (student, distiller)}
    return {
        STUDENT: lambda: student.train_step(batch, optimizers[student]),
        TEACHER: lambda: distiller._teacher.record([], inputs, samples),
        TRANSFERS: lambda: _train_alone(transfers),
        DISTILLED: lambda: distiller.train_step(batch, optimizers[distiller]),
    }


def _build_optimizer(model: BaseModel) -> OptimWrapper:
    sgd = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)
    return OptimWrapper(sgd)


def _detach(distiller: Distiller, name: str, inputs: Tensor, samples: Sequence) -> Transfer:
    """Copy a transfer and give it the features of one forward of student and teacher."""
    transfer = distiller.transfers[name]
    alone = copy.deepcopy(transfer)
    distiller._teacher.record([transfer.teacher_recorder], inputs, samples)
    with transfer.student_recorder.recording(distiller.student):
        distiller.student(inputs, samples, mode='loss')
    alone.student_recorder = GivenFeatures(transfer.student_recorder.features())
    alone.teacher_recorder = GivenFeatures(transfer.teacher_recorder.features())
    transfer.clear()
    return alone


def _train_alone(transfers: Sequence[Transfer]) -> None:
    sum(transfer() for transfer in transfers).backward()
    for transfer in transfers:
        for leaf in (*transfer.parameters(), *transfer.student_recorder.features()):
            leaf.grad = None


def measure(
    parts: dict[str, Callable[[], object]], rounds: int, warmup: int = WARMUP
) -> dict[str, Timing]:
    """Run all parts in turn, round by round, so that a disturbance hits them alike.

    Args:
        parts (dict): What is timed, by name.
        rounds (int): Number of rounds that count.
        warmup (int): Rounds before them that do not. Defaults to 2.

    Returns:
        dict[str, Timing]: The medians by name.
    """
    timings = {name: [] for name in parts}
    for _ in range(warmup + rounds):
        with _no_garbage_collection():
            for name, run in parts.items():
                timings[name].append(_time(run))
    return {name: _median(taken[warmup:]) for name, taken in timings.items()}


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect garbage before, not while a part is timed that did not leave it behind."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _time(run: Callable[[], object]) -> Timing:
    _synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    _synchronize()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu)


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _median(timings: Sequence[Timing]) -> Timing:
    return Timing(
        statistics.median(t.wall for t in timings), statistics.median(t.cpu for t in timings)
    )


def summarize(timings: dict[str, Timing]) -> dict[str, Timing]:
    """Add the sum of the parts and what the distilled step costs of it.

    Args:
        timings (dict[str, Timing]): The medians of :func:`build_parts` by name.

    Returns:
        dict[str, Timing]: The rows of the table: seconds, and a ratio in the last one.
    """
    parts = [timings[name] for name in (STUDENT, TEACHER, TRANSFERS)]
    whole = timings[DISTILLED]
    total = Timing(sum(part.wall for part in parts), sum(part.cpu for part in parts))
    ratio = Timing(whole.wall / total.wall, whole.cpu / total.cpu)
    names = (STUDENT, TEACHER, TRANSFERS, SUM, DISTILLED, RATIO)
    return dict(zip(names, (*parts, total, whole, ratio), strict=True))


def make_table(rows: dict[str, Timing], title: str, caption: str) -> Table:
    """Lay out the rows of :func:`summarize`.

    Args:
        rows (dict[str, Timing]): Seconds by name, and the ratio.
        title (str): What was measured.
        caption (str): How it was measured.
    """
    table = Table(title=title, caption=caption)
    for column in ('', 'wall (s)', 'x student', 'CPU (s)', 'x student'):
        table.add_column(column, justify='right' if column else 'left')
    alone = rows[STUDENT]
    for name, row in rows.items():
        if name == RATIO:
            table.add_section()
            table.add_row(name, f'{row.wall:.3f}', '', f'{row.cpu:.3f}', '')
            continue
        wall, cpu = f'{row.wall / alone.wall:.3f}', f'{row.cpu / alone.cpu:.3f}'
        table.add_row(name, f'{row.wall:.4f}', wall, f'{row.cpu:.4f}', cpu)
    return table


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a positive integer')
    return int(text)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', default=PAIR, help=f"the pair's config (default: {PAIR.name})")
    for option, default, what in (
        ('--image-size', 416, 'pixels a side'),
        ('--batch-size', 2, 'images a step'),
        ('--rounds', 5, 'rounds that count'),
    ):
        text = f'{what} (default: {default})'
        parser.add_argument(option, type=_positive, default=default, help=text)
    parser.add_argument('--threads', type=_positive, help="torch's threads (default: its choice)")
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Build a pair, measure it and print the table."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with ExitStack() as stack, cli.readable_errors():
        # MMEngine logs every parameter that it initialises.
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.INFO)
        cfg = cli.load_config(str(args.config))
        if not is_distiller(cfg.model):
            sys.exit(f'error: --config {args.config}: its model has no student and teacher')
        distiller, student = build_pair(cfg, args.device)
        batch = generate_batch(student, args.batch_size, args.image_size)
        rows = summarize(measure(build_parts(distiller, student, batch), args.rounds))
    caption = (
        f'{args.batch_size} images of {args.image_size} px, medians of {args.rounds} rounds\n'
        f'torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads'
    )
    Console().print(make_table(rows, Path(args.config).stem, caption))


if __name__ == '__main__':
    main()
