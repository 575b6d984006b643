"""The class of each pixel, by MMSegmentation's MMSegInferencer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.inference.predictor import Prediction, Predictor, without_backends


class SegmenterPredictor(Predictor):
    """A semantic segmenter; see :class:`Predictor`."""

    def build(self, stock: Config, device: str) -> Any:
        """Build MMSegmentation's inferencer.

        Raises:
            ValueError: If MMSegmentation is not installed.
        """
        try:
            from mmseg.apis import MMSegInferencer
        except ImportError as error:
            raise ConfigError(
                f'this config needs MMSegmentation, which cannot be imported ({error}): '
                'pip install onedl-mmsegmentation'
            ) from error
        stock.visualizer = without_backends(stock, 'mmseg.SegLocalVisualizer')
        return MMSegInferencer(stock, device=device, show_progress=False)

    def set_meta(self, meta: dict[str, Any]) -> None:
        """Tell it the classes and a colour for each."""
        super().set_meta(meta)
        names = [self.name(label) for label in range(self.model.decode_head.num_classes)]
        palette = meta.get('palette')
        if palette is None or len(palette) != len(names):
            palette = np.random.default_rng(0).integers(0, 256, (len(names), 3)).tolist()
        self.model.dataset_meta = dict(classes=names, palette=palette)

    def predict(self, image: Path, score_thr: float = 0.3) -> Prediction:
        """Predict on an image file and colour its pixels."""
        results = self.inferencer([str(image)], return_vis=True)
        labels, counts = np.unique(results['predictions'], return_counts=True)
        shares = sorted(zip(counts / counts.sum(), labels, strict=True), reverse=True)
        found = ', '.join(f'{share:.0%} {self.name(int(label))}' for share, label in shares)
        return Prediction(found, results['visualization'])
