"""Run a distiller's transfers alone, on the features of a step, in their own or textbook form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from step_textbook import TextbookReview, textbook_hcl
from torch import Tensor, nn

from reviewkd_mm.models.connectors import ReviewConnector
from reviewkd_mm.models.distillers import Distiller, Transfer
from reviewkd_mm.models.losses import HCLLoss


class GivenFeatures:
    """Take a recorder's place in a transfer: the same features each time.

    Args:
        features (Iterable[Tensor]): The features (N, C, H, W), shallow to deep.
    """

    def __init__(self, features: Iterable[Tensor]) -> None:
        self._features = [f.detach().clone().requires_grad_(f.requires_grad) for f in features]

    def features(self) -> list[Tensor]:
        """Return the features, which are leaves of the graph."""
        return self._features


class Form(Protocol):
    """How the loss of a transfer is computed from given features."""

    def loss(self, student: GivenFeatures, teacher: GivenFeatures) -> Tensor:
        """Return the loss, a 0-d tensor."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return what it trains."""


class OwnForm:
    """A transfer as the distiller runs it.

    Args:
        transfer (Transfer): The transfer.
    """

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self.parameters = transfer.parameters

    def loss(self, student: GivenFeatures, teacher: GivenFeatures) -> Tensor:
        """Return the loss, a 0-d tensor."""
        with self._reading(student, teacher):
            return self._transfer()

    @contextmanager
    def _reading(self, student: GivenFeatures, teacher: GivenFeatures) -> Iterator[None]:
        transfer = self._transfer
        recorders = transfer.student_recorder, transfer.teacher_recorder
        transfer.student_recorder, transfer.teacher_recorder = student, teacher
        try:
            yield
        finally:
            transfer.student_recorder, transfer.teacher_recorder = recorders


class TextbookForm:
    """A transfer with ABF and HCL as their equations are written.

    Args:
        transfer (Transfer): The transfer, whose weights are copied.
    """

    def __init__(self, transfer: Transfer) -> None:
        self._review = TextbookReview(transfer.connector)
        self._loss = transfer.loss
        self.parameters = self._review.parameters

    def loss(self, student: GivenFeatures, teacher: GivenFeatures) -> Tensor:
        """Return the loss, a 0-d tensor."""
        targets = teacher.features()
        outputs = self._review(student.features(), [target.shape[2:] for target in targets])
        return self._loss.loss_weight * textbook_hcl(outputs, targets, self._loss.levels)


def textbook_form(transfer: Transfer) -> Form:
    """Return a transfer's textbook form; of one without ABF and HCL it is the transfer itself."""
    review, hcl = ReviewConnector, HCLLoss
    if isinstance(transfer.connector, review) and isinstance(transfer.loss, hcl):
        return TextbookForm(transfer)
    return OwnForm(transfer)


Features = Mapping[str, tuple[GivenFeatures, GivenFeatures]]


def read_features(distiller: Distiller, inputs: Tensor, samples: Sequence) -> Features:
    """Read the features that a step gives to each transfer.

    Args:
        distiller (Distiller): The distiller.
        inputs (Tensor): Batch (N, C, H, W) from its data_preprocessor.
        samples (Sequence): Its samples.

    Returns:
        dict[str, tuple[GivenFeatures, GivenFeatures]]: Of student and teacher by transfer.
    """
    features = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(transfer: Transfer, args: tuple) -> None:
            recorders = transfer.student_recorder, transfer.teacher_recorder
            features[name] = tuple(GivenFeatures(recorder.features()) for recorder in recorders)

        return hook

    hooks = [t.register_forward_pre_hook(keep(name)) for name, t in distiller.transfers.items()]
    distiller(inputs, samples, mode='loss')
    for hook in hooks:
        hook.remove()
    return features


def train_alone(
    forms: Mapping[str, Form],
    features: Features,
    context: Callable[[], AbstractContextManager],
) -> Tensor:
    """Run forward and backward of all transfers and forget the gradients.

    Args:
        forms (Mapping[str, Form]): How each loss is computed, by transfer.
        features (Features): Of :func:`read_features`.
        context (Callable[[], AbstractContextManager]): Where the forward runs, such as autocast.

    Returns:
        Tensor: The sum of the losses.
    """
    with context():
        loss = sum(form.loss(*features[name]) for name, form in forms.items())
    loss.backward()
    for name, form in forms.items():
        for leaf in (*form.parameters(), *features[name][0].features()):
            leaf.grad = None
    return loss.detach()


def autocast(device: str, amp: bool) -> AbstractContextManager:
    """Return a context in which operations run in bf16, if asked for.

    Args:
        device (str): ``'cpu'`` or ``'cuda'``.
        amp (bool): Whether they do.
    """
    return torch.autocast(device, torch.bfloat16, enabled=amp)
