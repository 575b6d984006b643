"""Find the distiller of a training."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from reviewkd_mm.models.distillers import Distiller


def distiller_of(runner: Runner) -> Distiller | None:
    """Return the distiller that a Runner trains, without what wraps it; None for another model.

    Args:
        runner (Runner): The runner.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model if isinstance(model, Distiller) else None
