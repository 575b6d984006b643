"""What the rows run, built without a download: weights are random and the batch is generated."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from step_benchmark.rows import Job, Kind, Row
from torch import Tensor, nn

from reviewkd_mm import cli
from reviewkd_mm.config import is_distiller
from reviewkd_mm.engine.optimizers import AmpOptimWrapper
from reviewkd_mm.errors import ConfigError
from reviewkd_mm.export.student import build_student, student_config
from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.distillers import Distiller, Transfer
from reviewkd_mm.models.losses import HCLLoss
from reviewkd_mm.registry import MODELS

SEED = 0
BOXES = 7  # An image of COCO has 7.3 on average.

# Of the student and the teacher, by transfer.
Features = Mapping[str, tuple[list[Tensor], list[Tensor]]]


class Runs:
    """What the rows of a table run, built when a row first asks for it.

    All students have the same weights, and so have all teachers. With a learning rate of 0 every
    round repeats the same step.

    Args:
        job (Job): What is measured.
    """

    def __init__(self, job: Job) -> None:
        self._cfg = load_pair(job.config)
        self._device = job.device
        torch.manual_seed(SEED)
        self.student = build_student(student_config(self._cfg)).to(job.device).train()
        self.batch = generate_batch(self.student, job.batch_size, job.image_size)
        self._distillers: dict[str, Distiller] = {}

    def build(self, row: Row) -> Callable[[], object]:
        """Return what a row runs, ready to be called again and again.

        Steps are MMEngine's ``train_step``: data_preprocessor, losses, backward and the update of
        every parameter that trains. ABF and HCL alone are forward and backward, no update.

        Args:
            row (Row): The row, not a sum.
        """
        model = self.model(row)
        if row.kind in (Kind.STUDENT, Kind.STEP):
            return partial(model.train_step, self.batch, build_optimizer(model, row.amp))
        data = model.data_preprocessor(self.batch, True)
        inputs, samples = data['inputs'], data['data_samples']
        if row.kind is Kind.TEACHER:
            return partial(_record_teacher, model, inputs, samples)
        if row.kind is Kind.FULL_LOSS:
            return partial(torch.no_grad()(model.teacher), inputs, samples, mode='loss')
        # Compiled transfers are called where hooks do not see it.
        eager = self.model(replace(row, transfers_compile=False))
        with torch.autocast(self._device, torch.bfloat16, enabled=row.amp):
            features = read_features(eager, inputs, samples)
        forms = dict(model.transfers.items())
        if row.kind is Kind.TEXTBOOK:
            forms = {name: textbook_form(transfer) for name, transfer in forms.items()}
        return partial(train_transfers, forms, features, samples, self._device, row.amp)

    def model(self, row: Row) -> BaseModel:
        """Return what a row trains: the student alone, or the distiller with its settings."""
        if row.kind is Kind.STUDENT:
            return self.student
        key = str(row.settings)
        if key not in self._distillers:
            distiller = build_distiller(self._cfg, row.settings).to(self._device).train()
            distiller.student.load_state_dict(self.student.state_dict())
            self._distillers[key] = distiller
        return self._distillers[key]


def load_pair(file: str) -> Config:
    """Read a distiller's config; any other raises a ConfigError."""
    cfg = cli.load_config(file)
    if not is_distiller(cfg.model):
        raise ConfigError(f'--config {file}: its model has no student and teacher')
    return cfg


def build_distiller(cfg: Config, settings: Mapping[str, Any]) -> Distiller:
    """Build the distiller of a config with random weights and settings that replace its own."""
    cfg = copy.deepcopy(cfg)
    # Without init_weights() the student loads no Pretrained weights either.
    cfg.merge_from_dict(dict(model=dict(settings, teacher_ckpt='random')))
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return MODELS.build(cfg.model)


def is_detector(student: BaseModel) -> bool:
    """Return whether a student detects objects; if not, it classifies images."""
    return not type(student).__module__.startswith('mmpretrain.')


def generate_batch(student: BaseModel, batch_size: int, image_size: int) -> dict[str, Any]:
    """Generate what a dataloader gives: square uint8 images with labels, or boxes and masks."""
    shape = (3, image_size, image_size)
    if not is_detector(student):
        from mmpretrain.structures import DataSample

        samples = [DataSample().set_gt_label(0) for _ in range(batch_size)]
        images = torch.randint(256, (batch_size, *shape), dtype=torch.uint8)
        return dict(inputs=images, data_samples=samples)
    from mmdet.testing import demo_mm_inputs

    batch = demo_mm_inputs(batch_size, shape, num_items=[BOXES] * batch_size, with_mask=True)
    for sample in batch['data_samples']:
        sample.gt_instances.labels.zero_()  # The one class that every detector has.
    return batch


def build_optimizer(model: nn.Module, amp: bool) -> OptimWrapper:
    """Build an SGD that does all the work of an update and changes nothing."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=1e-4)
    return AmpOptimWrapper(optimizer=sgd, dtype='bfloat16') if amp else OptimWrapper(sgd)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MMEngine from logging every parameter that it initialises."""
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(level)


def _record_teacher(distiller: Distiller, inputs: Tensor, samples: Sequence) -> None:
    distiller.record_teacher(inputs, samples)
    for recorder in distiller.teacher_recorders.values():
        recorder.clear()  # Between its runs nothing is held.


def read_features(distiller: Distiller, inputs: Tensor, samples: Sequence) -> Features:
    """Copy the features that a step gives to each transfer of a distiller that runs them eagerly.

    Args:
        distiller (Distiller): The distiller.
        inputs (Tensor): Batch (N, C, H, W) from its data_preprocessor.
        samples (Sequence): Its samples.

    Returns:
        dict: The student's, which are leaves of the graph, and the teacher's, by transfer.
    """
    features = {}

    def keep(name: str, transfer: Transfer, args: tuple) -> None:
        features[name] = tuple([_copy(feature) for feature in side] for side in args[:2])

    transfers = distiller.transfers.items()
    hooks = [t.register_forward_pre_hook(partial(keep, name)) for name, t in transfers]
    distiller(inputs, samples, mode='loss')
    for hook in hooks:
        hook.remove()
    return features


def _copy(feature: Tensor) -> Tensor:
    return feature.detach().clone().requires_grad_(feature.requires_grad)


def train_transfers(
    forms: Mapping[str, nn.Module], features: Features, samples: Sequence, device: str, amp: bool
) -> Tensor:
    """Run forward and backward of transfers alone and forget the gradients.

    Args:
        forms (Mapping[str, nn.Module]): The transfers, or what computes the same, by name.
        features (Features): Of :func:`read_features`.
        samples (Sequence): Samples of the batch.
        device (str): ``'cpu'`` or ``'cuda'``.
        amp (bool): Whether the forward runs under autocast to bf16.

    Returns:
        Tensor: The sum of the losses.
    """
    with torch.autocast(device, torch.bfloat16, enabled=amp):
        loss = sum(form(*features[name], samples) for name, form in forms.items())
    loss.backward()
    for name, form in forms.items():
        for leaf in (*form.parameters(), *features[name][0]):
            leaf.grad = None
    return loss.detach()


def textbook_form(transfer: Transfer) -> nn.Module:
    """Return a transfer's textbook form; of one without ABF and HCL it is the transfer itself."""
    if isinstance(transfer.connector, ReviewConnector) and isinstance(transfer.loss, HCLLoss):
        return TextbookReview(transfer.connector, transfer.loss)
    return transfer


class TextbookReview(nn.Module):
    """ABF and HCL, an operation for each one in the equations.

    From "Distilling Knowledge via Knowledge Review" (CVPR 2021, arXiv 2104.09044). This is what
    the package's own form is measured against.

    Args:
        connector (ReviewConnector): Whose convolutions and norms are run.
        loss (HCLLoss): Whose weight and levels are taken.
    """

    def __init__(self, connector: ReviewConnector, loss: HCLLoss) -> None:
        super().__init__()
        self.abfs = connector.abfs
        self.loss_weight, self.levels = loss.loss_weight, loss.levels

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], data_samples: object = None
    ) -> Tensor:
        """Compare features (N, C_i, H_i, W_i), shallow to deep, as a transfer does."""
        loss, residual = 0.0, None
        for abf, x, target in reversed([*zip(self.abfs, student, teacher, strict=True)]):
            x = abf.conv1(x)
            if residual is not None:
                residual = _resize(residual, x.shape[2:])
                maps = torch.sigmoid(abf.att_conv(torch.cat((x, residual), dim=1)))
                x = x * maps[:, 0:1] + residual * maps[:, 1:2]
            residual = _resize(x, target.shape[2:])
            loss = loss + self._compare(abf.conv2(residual), target)
        return self.loss_weight * loss

    def _compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        losses = [F.mse_loss(student, teacher)]
        for level in self.levels:
            if level < student.shape[2]:
                pooled = (F.adaptive_avg_pool2d(f, level) for f in (student, teacher))
                losses.append(F.mse_loss(*pooled))
        weights = [0.5**power for power in range(len(losses))]
        return sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, tuple(size), mode='nearest')
