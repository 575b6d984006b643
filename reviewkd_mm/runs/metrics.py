"""The metrics of a training: what a log calls them, and what publications call them."""

from __future__ import annotations

from dataclasses import dataclass

from reviewkd_mm.runs.published import Listed
from reviewkd_mm.runs.run import Run


@dataclass(frozen=True)
class Metric:
    """A number that a validation logs.

    Args:
        name (str): What it is called in publications, and in the metafiles.
        key (str): What it is called in a log.
        factor (float): What it is multiplied by there. Defaults to 1.
        higher_is_better (bool): Whether the highest is known to be the best. Defaults to True.
    """

    name: str
    key: str
    factor: float = 1.0
    higher_is_better: bool = True

    def curve(self, run: Run) -> dict[int, float]:
        """Return it by epoch or iteration.

        Args:
            run (Run): The training.
        """
        return {at: value * self.factor for at, value in run.metric(self.key).items()}


METRICS = (
    Metric('Top 1 Accuracy', 'accuracy/top1'),
    Metric('box AP', 'coco/bbox_mAP', 100.0),
    Metric('mask AP', 'coco/segm_mAP', 100.0),
    Metric('mIoU', 'mIoU'),
    Metric('PQ', 'coco_panoptic/PQ'),
)


def find_metric(run: Run, listed: Listed | None = None) -> Metric | None:
    """Find what a training is judged by.

    Args:
        run (Run): The training.
        listed (Listed | None): What the metafiles say of its config. Defaults to None.

    Returns:
        Metric | None: The metric of the metafile; of a config without one the first known one
        that was logged, or else the first that was; None where nothing was.
    """
    known = {metric.name: metric for metric in METRICS}
    if listed is not None and listed.metric in known:
        return known[listed.metric]
    return next(iter(find_metrics(run)), None)


def find_metrics(run: Run) -> list[Metric]:
    """Find the known metrics that a training logged.

    Args:
        run (Run): The training.

    Returns:
        list[Metric]: They; where it logged none of them, the first that it logged.
    """
    logged = list(dict.fromkeys(key for values in run.validations.values() for key in values))
    known = [metric for metric in METRICS if metric.key in logged]
    return known or [Metric(key, key, higher_is_better=False) for key in logged[:1]]
