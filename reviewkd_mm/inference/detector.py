"""Boxes, instance masks and panoptic segments, by MMDetection's DetInferencer."""

from __future__ import annotations

from collections import Counter
from itertools import compress
from pathlib import Path
from typing import Any

from mmdet.apis import DetInferencer
from mmdet.evaluation import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from mmengine.config import Config

from reviewkd_mm.inference.predictor import (
    Prediction,
    Predictor,
    transform_names,
    without_backends,
)
from reviewkd_mm.utils import forked_rng

# Images have none; the panoptic ones cannot even be built without the package panopticapi.
ANNOTATIONS = ('LoadAnnotations', 'LoadPanopticAnnotations')


class DetectorPredictor(Predictor):
    """A detector, an instance segmenter or a panoptic one; see :class:`Predictor`."""

    def build(self, stock: Config, device: str) -> DetInferencer:
        """Build MMDetection's inferencer."""
        names, dataset = transform_names(stock), stock.test_dataloader.dataset
        kept = [name not in ANNOTATIONS for name in names]
        dataset.pipeline = list(compress(dataset.pipeline, kept))
        stock.visualizer = without_backends(stock, 'mmdet.DetLocalVisualizer')
        # With a palette it does not build the test data set to ask it for one.
        return DetInferencer(stock, device=device, palette='random', show_progress=False)

    def set_meta(self, meta: dict[str, Any]) -> None:
        """Tell it the classes and, if there is a colour for each, the palette."""
        super().set_meta(meta)
        palette = meta.get('palette')
        if isinstance(palette, (list, tuple)) and len(palette) < len(self.classes or ()):
            palette = None
        meta = dict(meta, palette=palette or 'random')
        self.model.dataset_meta = self.inferencer.visualizer.dataset_meta = meta

    def predict(self, image: Path, score_thr: float = 0.3) -> Prediction:
        """Predict on an image file and draw what scores more than ``score_thr``."""
        with forked_rng(0):  # The colours of masks are jittered at random.
            results = self.inferencer(
                [str(image)], return_datasamples=True, return_vis=True, pred_score_thr=score_thr
            )
        found = self.describe(results['predictions'][0].cpu(), score_thr)
        return Prediction(found, results['visualization'][0])

    def describe(self, sample: DetDataSample, score_thr: float) -> str:
        """Count the objects of each class.

        Args:
            sample (DetDataSample): The model's prediction.
            score_thr (float): Objects that score no more than this are not counted. Panoptic
                segments have no score.

        Returns:
            str: Such as ``'2 cat, 1 dog'``, the most frequent first.
        """
        if 'pred_panoptic_seg' in sample:
            ids = sample.pred_panoptic_seg.sem_seg.unique() % INSTANCE_OFFSET
            labels = ids[ids != len(self.classes or ())]  # That number stands for no class.
        else:
            instances = sample.pred_instances
            labels = instances.labels[instances.scores > score_thr]
        counts = Counter(labels.tolist()).most_common()
        found = ', '.join(f'{count} {self.name(label)}' for label, count in counts)
        return found or f'nothing above a score of {score_thr:g}'
