"""The class of an image, by MMPretrain's ImageClassificationInferencer."""

from __future__ import annotations

from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmpretrain.apis import ImageClassificationInferencer
from mmpretrain.registry import TRANSFORMS
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from reviewkd_mm.config.parts import innermost_dataset
from reviewkd_mm.inference.predictor import Prediction, Predictor, transform_names

MIN_DRAWING = 224  # Shorter side in pixels on which the class's name can be read.


class ClassifierPredictor(Predictor):
    """An image classifier; see :class:`Predictor`.

    Where the test pipeline starts from arrays in memory, as that of CIFAR does, an image is made
    what the arrays of such data sets are: RGB, and of the size that the training crops to.
    """

    def check(self, stock: Config) -> None:
        """Accept every pipeline."""
        self.reads_files = any(name.startswith('Load') for name in transform_names(stock))
        self.size = None if self.reads_files else _train_size(stock)

    def build(self, stock: Config, device: str) -> ImageClassificationInferencer:
        """Build MMPretrain's inferencer, and the visualizer with which it would draw."""
        self.visualizer = UniversalVisualizer()
        # The inferencer's own leaves out how images are loaded: in grey, or by another backend.
        pipeline = stock.test_dataloader.dataset.pipeline
        self.pipeline = Compose([TRANSFORMS.build(transform) for transform in pipeline])
        return ImageClassificationInferencer(stock, pretrained=False, device=device)

    def predict(self, image: Path, score_thr: float = 0.3) -> Prediction:
        """Predict on an image file and write the class and its score on it."""
        pixels = mmcv.imread(image, channel_order='rgb')
        sample = self.classify(str(image) if self.reads_files else self.resize(pixels))
        drawing = self.visualizer.visualize_cls(
            pixels,
            sample,
            classes=self.classes,
            draw_gt=False,
            resize=MIN_DRAWING if min(pixels.shape[:2]) < MIN_DRAWING else None,
        )
        labels = sample.pred_label.tolist()
        found = ', '.join(f'{self.name(k)} {sample.pred_score[k]:.2f}' for k in labels)
        return Prediction(found or 'no class', drawing)

    def classify(self, image: str | np.ndarray) -> DataSample:
        """Run the model on a file, or on an array (H, W, 3) as its data set has them."""
        if isinstance(image, str):
            data = dict(img_path=image)
        else:
            data = dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        # The inferencer's call would show a progress bar for each image.
        return self.inferencer.forward(default_collate([self.pipeline(data)]))[0].cpu()

    def resize(self, pixels: np.ndarray) -> np.ndarray:
        """Resize an image (H, W, 3) to the size of the training's, if that is known."""
        return pixels if self.size is None else mmcv.imresize(pixels, self.size)


def _train_size(stock: Config) -> tuple[int, int] | None:
    """Return the width and height that the training crops to, or None if it does not crop."""
    dataset = innermost_dataset((stock.get('train_dataloader') or {}).get('dataset'))
    for transform in dataset.get('pipeline') or []:
        if 'crop_size' in transform:
            size = transform['crop_size']
            return (size, size) if isinstance(size, int) else tuple(reversed(size))
    return None
