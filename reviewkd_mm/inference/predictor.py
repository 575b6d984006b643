"""What the predictors of all packages share: strict weights and the names of the classes."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import nn

from reviewkd_mm.errors import ConfigError
from reviewkd_mm.models.distillers.checkpoint import load_weights, read_checkpoint


class Prediction(NamedTuple):
    """What a model found in an image.

    Args:
        found (str): In words, such as ``'2 cat, 1 dog'``.
        drawing (np.ndarray): The image with what was found drawn on it, (H, W, 3), uint8, RGB.
    """

    found: str
    drawing: np.ndarray


class Predictor(ABC):
    """A student behind the inferencer of its package.

    The inferencer builds the model from the config and the weights are loaded here, since an
    inferencer takes whatever part of a checkpoint fits.

    Args:
        stock (Config): The config of an ordinary model; it is changed.
        checkpoint (str): Path or URL of a checkpoint of the model or of its distiller.
        device (str): Where the model runs, such as ``'cuda:0'``.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        RuntimeError: If the checkpoint does not fit the model.
        ValueError: If the inferencer cannot use the config.
    """

    def __init__(self, stock: Config, checkpoint: str, device: str) -> None:
        self.check(stock)
        saved = read_checkpoint(checkpoint, 'checkpoint')
        with warnings.catch_warnings():
            # An inferencer without a checkpoint warns of random weights and of other classes.
            warnings.simplefilter('ignore')
            self.inferencer = self.build(stock, device)
        load_weights(self.inferencer.model, checkpoint, 'checkpoint')
        self.set_meta(_dataset_meta(stock, saved))

    def check(self, stock: Config) -> None:
        """Raise an error where the inferencer could not read images: overridden by some."""
        if 'LoadImageFromFile' not in transform_names(stock):
            raise ConfigError(
                'test_dataloader.dataset.pipeline: expected LoadImageFromFile among its '
                f'transforms, got {transform_names(stock)}'
            )

    @abstractmethod
    def build(self, stock: Config, device: str) -> Callable:
        """Build the inferencer, which has its model as ``model``."""

    def set_meta(self, meta: dict[str, Any]) -> None:
        """Take over the names of the classes; an inferencer that draws by itself needs them too.

        Args:
            meta (dict): A data set's metainfo.
        """
        self.classes = meta.get('classes')

    @abstractmethod
    def predict(self, image: Path, score_thr: float = 0.3) -> Prediction:
        """Predict on an image file and draw the result.

        Args:
            image (Path): The file.
            score_thr (float): Objects that score no more than this are left out. Defaults to 0.3.

        Returns:
            Prediction: What was found.
        """

    def name(self, label: int) -> str:
        """Return the name of a class, or its number where the names are not known."""
        return self.classes[label] if self.classes else f'class {label}'

    @property
    def model(self) -> nn.Module:
        """The student."""
        return self.inferencer.model


def transform_names(stock: Config) -> list[str]:
    """Return the names of the transforms of the test pipeline, without scopes.

    Args:
        stock (Config): A config whose ``test_dataloader`` has a pipeline.

    Returns:
        list[str]: The names, in order.
    """
    kinds = [transform['type'] for transform in stock.test_dataloader.dataset.pipeline]
    names = [kind if isinstance(kind, str) else kind.__name__ for kind in kinds]
    return [name.rpartition('.')[2] for name in names]


def without_backends(stock: Config, kind: str) -> dict:
    """Return the config's visualizer, which shall draw but not log.

    Args:
        stock (Config): The config.
        kind (str): The visualizer's type where the config has none.

    Returns:
        dict: The visualizer's config.
    """
    visualizer = dict(stock.get('visualizer') or dict(type=kind))
    visualizer.pop('vis_backends', None)
    return visualizer


def _dataset_meta(stock: Config, saved: Mapping) -> dict[str, Any]:
    """Return the metainfo of the checkpoint's data set, or else of the config's."""
    meta = _lower((saved.get('meta') or {}).get('dataset_meta') or {})
    if meta.get('classes'):
        return meta
    # Lazily, so that its files need not be there.
    dataset = dict(stock.test_dataloader.dataset, pipeline=[], lazy_init=True)
    with DATASETS.switch_scope_and_registry(stock.get('default_scope')) as registry:
        return _lower(registry.build(dataset).metainfo)


def _lower(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metainfo as of MMDetection 3 and MMPretrain 1; older ones had upper case."""
    return {key.lower(): value for key, value in meta.items()}
