"""Build what the rows run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmengine.model import BaseModel
from step_models import (
    build_alone,
    build_distiller,
    build_optimizer,
    generate_batch,
    is_detector,
    load_pair,
)
from step_pairs import Job
from step_rows import ALL_OFF, Kind, Options, Row
from step_transfers import (
    Features,
    Form,
    OwnForm,
    autocast,
    read_features,
    textbook_form,
    train_alone,
)
from torch import Tensor, nn

from reviewkd_mm.models.distillers import Distiller

SEED = 0


class Runs:
    """What the rows of a table run, built when a row first asks for it.

    All students have the same weights, in the same memory where they have the same layout, and
    all teachers have the same weights. With a learning rate of 0 every round repeats the same
    step.

    Args:
        job (Job): What is measured.
    """

    def __init__(self, job: Job) -> None:
        self._cfg = load_pair(job.config)
        self._device = job.device
        torch.manual_seed(SEED)
        self.student = build_alone(self._cfg, job.device)
        self.batch = generate_batch(self.student, job.batch_size, job.image_size)
        self._memory: dict[tuple, Tensor] = {}
        self._distillers: dict[tuple[Options, bool], Distiller] = {}
        self._features: dict[tuple[bool, bool], Features] = {}

    @property
    def is_detector(self) -> bool:
        """Whether the pair detects objects; if not, it classifies images."""
        return is_detector(self.student)

    def build(self, row: Row) -> Callable[[], object]:
        """Return what a row runs, ready to be called again and again.

        Steps are MMEngine's ``train_step``: data_preprocessor, losses, backward and the update of
        every parameter that trains. ABF and HCL alone are forward and backward, no update.

        Args:
            row (Row): The row, not a sum.
        """
        if row.kind is Kind.STUDENT:
            return self._step(self.student, row)
        distiller = self.distiller(row.options, row.amp)
        if row.kind is Kind.STEP:
            return self._step(distiller, row)
        if row.kind is Kind.TEXTBOOK:
            return self._transfers(distiller, row, textbook_form)
        if row.kind is Kind.TRANSFERS:
            return self._transfers(distiller, row, OwnForm)
        run = _record if row.kind is Kind.TEACHER else _compute_losses
        return partial(run, distiller, *self._preprocess(distiller))

    def fell_back(self, row: Row) -> bool:
        """Return whether a row's compilation failed, so that it ran without."""
        if not row.compiled:
            return False
        distiller = self.distiller(row.options, row.amp)
        parts = [transfer._compiled for transfer in distiller.transfers.values()]
        if row.kind is Kind.STEP:
            parts.append(distiller._teacher._compiled)
        return any(part is not None and part._compiled is None for part in parts)

    def distiller(self, options: Options, amp: bool) -> Distiller:
        """Return the distiller with given settings.

        Args:
            options (Options): The settings.
            amp (bool): Whether it runs under autocast, for which there is one of its own: it may
                keep a teacher of another dtype.
        """
        if (options, amp) not in self._distillers:
            distiller = build_distiller(self._cfg, options, self._device)
            distiller.student.load_state_dict(self.student.state_dict())
            self._share_memory(self.student)
            self._share_memory(distiller.student)
            self._distillers[options, amp] = distiller
        return self._distillers[options, amp]

    def _share_memory(self, student: nn.Module) -> None:
        """Let the students' parameters of one name and memory layout be one tensor."""
        for name, parameter in student.named_parameters():
            key = name, parameter.stride()
            parameter.data = self._memory.setdefault(key, parameter.data)

    def _step(self, model: BaseModel, row: Row) -> Callable[[], object]:
        return partial(model.train_step, self.batch, build_optimizer(model, row.amp))

    def _preprocess(self, distiller: Distiller) -> tuple[Tensor, Sequence]:
        data = distiller.data_preprocessor(self.batch, True)
        return data['inputs'], data['data_samples']

    def _transfers(
        self, distiller: Distiller, row: Row, form: Callable[[nn.Module], Form]
    ) -> Callable[[], Tensor]:
        forms = {name: form(transfer) for name, transfer in distiller.transfers.items()}
        features = self._read_features(row.options.channels_last, row.amp)
        return partial(train_alone, forms, features, partial(autocast, self._device, row.amp))

    def _read_features(self, channels_last: bool, amp: bool) -> Features:
        if (channels_last, amp) not in self._features:
            # Of a distiller that does not compile: its transfers are called where hooks see it.
            distiller = self.distiller(Options() if channels_last else ALL_OFF, amp)
            with autocast(self._device, amp):
                features = read_features(distiller, *self._preprocess(distiller))
            self._features[channels_last, amp] = features
        return self._features[channels_last, amp]


def _record(distiller: Distiller, inputs: Tensor, samples: Sequence) -> None:
    recorders = [transfer.teacher_recorder for transfer in distiller.transfers.values()]
    distiller._teacher.record(recorders, inputs, samples)
    for recorder in recorders:
        recorder.clear()


@torch.no_grad()
def _compute_losses(distiller: Distiller, inputs: Tensor, samples: Sequence) -> None:
    distiller.teacher(inputs, samples, mode='loss')
