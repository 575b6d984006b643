"""How a teacher is run: nothing here changes what it computes, beyond rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.distillers.fold_batch_norm import fold_batch_norm
from reviewkd_mm.models.distillers.probe import FAILURES
from reviewkd_mm.utils import did_you_mean

DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16, 'fp32': torch.float32}

Run = Callable[[nn.Module], Sequence[Tensor]]


@dataclass(frozen=True)
class TeacherOptions:
    """How the teacher is run.

    Args:
        dtype (str, optional): Precision of its convolutions and linear layers: ``'bf16'``,
            ``'fp16'`` or ``'fp32'``. Defaults to None, which means that of the student,
            mixed precision included.
        fold_bn (bool): Whether BatchNorm is folded into convolutions where the outputs prove
            that nothing changes. Defaults to False.
        compile (bool): Whether it is compiled. Defaults to False.
        stream (bool): Whether it runs on a CUDA stream of its own. Defaults to False.

    Raises:
        ValueError: If the dtype is none of these.
    """

    dtype: str | None = None
    fold_bn: bool = False
    compile: bool = False
    stream: bool = False

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ConfigError(
                f'teacher_dtype={self.dtype!r}: expected None, which follows the student, or one '
                f'of {[*DTYPES]}; {did_you_mean(str(self.dtype), DTYPES)}'
            )

    @contextmanager
    def precision(self, device_type: str) -> Iterator[None]:
        """Run the block in the precision of the options.

        Args:
            device_type (str): The type of the teacher's device.
        """
        if self.dtype is None:
            yield
            return
        dtype = DTYPES[self.dtype]
        half = dtype != torch.float32
        with torch.autocast(device_type, dtype=dtype if half else None, enabled=half):
            yield


def fast_copy(model: nn.Module, options: TeacherOptions, run: Run) -> nn.Module:
    """Copy a frozen model into the form in which it runs fastest, its features proven equal.

    Args:
        model (nn.Module): The model, which is left as it is.
        options (TeacherOptions): What may be done.
        run (Callable[[nn.Module], Sequence[Tensor]]): Runs a model on an image that is the same
            each time and returns its features.

    Returns:
        nn.Module: The copy; the model itself where nothing is to be done.
    """
    folded = _fold_in_double(model, run) if options.fold_bn else None
    parameter = next(model.parameters(), torch.empty(0))
    # Autocast leaves a model in double precision as it is.
    half = options.dtype in ('bf16', 'fp16') and parameter.dtype != torch.float64
    fast = _copy(model) if half and folded is None else folded
    if not half or fast is None:
        return model if fast is None else fast
    with options.precision(parameter.device.type):
        stored = _store_weights(fast, DTYPES[options.dtype], run)
    return fast if stored or folded is not None else model


def _copy(model: nn.Module) -> nn.Module | None:
    try:
        return copy.deepcopy(model)
    except FAILURES:  # It holds a lock, for example.
        return None


def _fold_in_double(model: nn.Module, run: Run) -> nn.Module | None:
    """Fold where rounding, TensorFloat-32's too, can neither hide a wrong pair nor refuse one."""
    double = _copy(model)
    try:
        if double is None or not fold_batch_norm(double.double(), lambda: run(double)):
            return None
    except FAILURES:  # A device without doubles, or a model that makes single ones itself.
        return None
    return double.to(next(model.parameters()).dtype)


def _store_weights(model: nn.Module, dtype: torch.dtype, run: Run) -> bool:
    """Keep the weights in the dtype to which autocast would cast them in each forward."""
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    weights = [
        parameter
        for layer in model.modules()
        if isinstance(layer, layers)
        for parameter in (layer.weight, layer.bias)
        if parameter is not None
    ]
    originals = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.to(dtype)
    try:
        run(model)
    except FAILURES:  # A part of it computes outside of autocast.
        for weight, original in zip(weights, originals, strict=True):
            weight.data = original
        return False
    return True
