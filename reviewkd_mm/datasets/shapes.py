"""Generated shapes with boxes and masks in COCO format: detection without a download."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mmcv
import numpy as np

from reviewkd_mm.errors import ConfigError

CLASSES = ('circle', 'rectangle', 'triangle')
SPLITS = ('train', 'val')
MIN_SIDE = 32  # MMDetection's COCO configs leave smaller images out.
ATTEMPTS = 10  # Places to try for a shape before it is left out.
CONTRAST = 90  # Least distance of a shape's colour from the background's, in grey levels.


@dataclass(frozen=True)
class ShapeImages:
    """Images of coloured circles, rectangles and triangles on a cluttered, noisy background.

    No shape hides a part of another, so a polygon covers exactly the pixels that were painted. An
    image depends on its split, its index and these settings alone.

    Args:
        image_size (tuple[int, int]): Height and width in pixels, 32 at least. Defaults to
            ``(96, 96)``.
        seed (int): Seed of the drawing, 0 at least. Defaults to 0.
        max_shapes (int): Largest number of shapes in an image, which has one at least. Defaults
            to 6.
        scale (tuple[float, float]): Range of a shape's longest extent, as a fraction of the
            image's shorter side. Defaults to ``(0.2, 0.5)``.
        clutter (int): Number of strokes behind the shapes. Defaults to 4.
        noise (float): Standard deviation of the Gaussian noise, in grey levels out of 255.
            Defaults to 15.

    Raises:
        ValueError: If a setting is out of its range.
    """

    image_size: tuple[int, int] = (96, 96)
    seed: int = 0
    max_shapes: int = 6
    scale: tuple[float, float] = (0.2, 0.5)
    clutter: int = 4
    noise: float = 15.0

    def __post_init__(self) -> None:
        is_large = len(self.image_size) == 2 and min(self.image_size) >= MIN_SIDE
        expected = f'height and width, {MIN_SIDE} pixels at least'
        _require(is_large, 'image_size', self.image_size, expected)
        in_order = len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1
        _require(in_order, 'scale', self.scale, '0 < smallest <= largest <= 1')
        _require(self.max_shapes >= 1, 'max_shapes', self.max_shapes, 'at least 1')
        for name in ('seed', 'clutter', 'noise'):
            _require(getattr(self, name) >= 0, name, getattr(self, name), 'at least 0')

    def draw(self, split: str, index: int) -> tuple[np.ndarray, list[dict]]:
        """Draw an image.

        Args:
            split (str): ``'train'`` or ``'val'``.
            index (int): Number of the image in its split, from 0.

        Returns:
            tuple[np.ndarray, list[dict]]: The image, uint8 (H, W, 3), and its shapes as COCO's
            annotations without ids: the polygon in pixels, its bounds as ``bbox`` (x, y, width,
            height), and the number of its pixels as ``area``.
        """
        rng = np.random.default_rng((self.seed, SPLITS.index(split), index))
        image, paper = self._draw_background(rng)
        free = np.ones(self.image_size, bool)
        annotations = []
        for _ in range(rng.integers(1, self.max_shapes + 1)):
            category = int(rng.integers(len(CLASSES)))
            placed = self._place(OUTLINES[CLASSES[category]], free, rng)
            if placed is None:
                continue
            polygon, mask = placed
            free &= ~mask
            image[mask] = _draw_colour(paper, rng)
            annotations.append(_annotate(polygon, mask, category))
        image += rng.normal(0, self.noise, image.shape)
        return image.clip(0, 255).round().astype(np.uint8), annotations

    def _draw_background(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return a shaded canvas (H, W, 3) with strokes on it, and its mean colour."""
        height, width = self.image_size
        paper, shade = rng.uniform(40, 215, 3), rng.uniform(-30, 30, (2, 3))
        rows, columns = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
        image = paper + rows[:, None, None] * shade[0] + columns[None, :, None] * shade[1]
        for _ in range(self.clutter):
            outline = _rectangle(rng) * (1, rng.uniform(0.03, 0.1))
            stroke = self._scatter(_turn(outline, rng), rng.uniform(0.2, 0.8), rng)
            image[self._rasterise(stroke)] = rng.uniform(0, 255, 3)
        return image, paper

    def _place(
        self, outline: Callable, free: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a polygon (N, 2) and its mask (H, W) on free pixels, or None for want of room."""
        for _ in range(ATTEMPTS):
            polygon = self._scatter(_turn(outline(rng), rng), rng.uniform(*self.scale), rng)
            mask = self._rasterise(polygon)
            if mask.any() and not (mask & ~free).any():
                return polygon, mask
        return None

    def _scatter(self, outline: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
        """Resize an outline (N, 2) to a longest extent and move it to a place in the image."""
        height, width = self.image_size
        outline = outline - outline.min(0)
        outline *= scale * min(height, width) / outline.max()
        offset = rng.uniform(0, (width, height) - outline.max(0))
        return (outline + offset).round(2)

    def _rasterise(self, polygon: np.ndarray) -> np.ndarray:
        """Return the mask (H, W) of a polygon, by the rule of COCO's own tools."""
        # It comes with MMDetection, which a classifier can do without.
        from pycocotools import mask as coco_mask

        (encoded,) = coco_mask.frPyObjects([polygon.ravel().tolist()], *self.image_size)
        return coco_mask.decode(encoded).astype(bool)


def write_shapes(
    folder: str | Path, num_train: int = 400, num_val: int = 100, **drawing: Any
) -> Path:
    """Write a data set of shapes with boxes and masks in COCO format.

    The folder gets ``train/*.png``, ``val/*.png`` and ``annotations/instances_{train,val}.json``,
    and it appears under its name when it is complete. The same settings write the same bytes, and
    a larger number adds images to the same ones. A folder with this very data set stays as it is.

    Args:
        folder (str | Path): Where to write: a new or an empty folder.
        num_train (int): Number of training images. Defaults to 400.
        num_val (int): Number of validation images. Defaults to 100.
        **drawing: Arguments of :class:`ShapeImages`, such as ``image_size`` and ``seed``.

    Returns:
        Path: The folder.

    Raises:
        ValueError: If a setting is out of its range, or the folder holds something else.

    Examples:
        >>> write_shapes('data/shapes', num_train=400, num_val=100, image_size=(96, 96), seed=0)
    """
    folder, images = Path(folder), ShapeImages(**drawing)
    numbers = dict(train=num_train, val=num_val)
    for split, number in numbers.items():
        _require(number >= 1, f'num_{split}', number, 'at least 1')
    # As JSON has it, where a tuple is a list.
    settings = json.loads(json.dumps(dict(num_train=num_train, num_val=num_val, **asdict(images))))
    if _holds(folder, settings):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{folder.name}.', dir=folder.parent) as partial:
        complete = Path(partial, folder.name)
        for split, number in numbers.items():
            _write_split(images, split, number, complete, settings)
        _publish(complete, folder, settings)
    return folder


def _write_split(
    images: ShapeImages, split: str, number: int, folder: Path, settings: dict
) -> None:
    height, width = images.image_size
    records, annotations = [], []
    for index in range(number):
        image, shapes = images.draw(split, index)
        name = f'{index:06d}.png'
        mmcv.imwrite(image, str(folder / split / name))
        records.append(dict(id=index, file_name=name, height=height, width=width))
        for shape in shapes:
            annotations.append(dict(id=len(annotations) + 1, image_id=index, **shape))
    content = dict(
        info=dict(description='Generated shapes', settings=settings),
        images=records,
        annotations=annotations,
        categories=[dict(id=index, name=name) for index, name in enumerate(CLASSES, start=1)],
    )
    file = _ann_file(folder, split)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


def _ann_file(folder: Path, split: str) -> Path:
    return folder / 'annotations' / f'instances_{split}.json'


def _holds(folder: Path, settings: dict) -> bool:
    """Return whether a folder holds the data set of these settings; refuse any other content."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    file = _ann_file(folder, 'train')
    info = json.loads(file.read_text()).get('info', {}) if file.is_file() else {}
    there = info.get('settings')
    if there == settings:
        return True
    content = 'something else'
    if there:
        other = [f'{k}={there.get(k)!r}' for k in settings if there.get(k) != settings[k]]
        content = f'shapes of other settings ({", ".join(other)})'
    raise ConfigError(
        f'write_shapes: folder={str(folder)!r}: expected a new or an empty folder, or one with '
        f'the shapes of these settings, but it holds {content}'
    )


def _publish(complete: Path, folder: Path, settings: dict) -> None:
    try:
        complete.replace(folder)
    except OSError:
        # Another process may have been faster.
        if not _holds(folder, settings):
            raise


def _require(is_met: bool, name: str, value: object, expected: str) -> None:
    if not is_met:
        raise ConfigError(f'write_shapes: {name}={value!r}: expected {expected}')


def _annotate(polygon: np.ndarray, mask: np.ndarray, category: int) -> dict:
    low, high = polygon.min(0), polygon.max(0)
    return dict(
        category_id=category + 1,
        segmentation=[polygon.ravel().tolist()],
        bbox=[*low.tolist(), *(high - low).round(2).tolist()],
        area=int(mask.sum()),
        iscrowd=0,
    )


def _draw_colour(paper: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random colour that can be told from the background's."""
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.linalg.norm(colour - paper) >= CONTRAST:
            return colour


def _circle(rng: np.random.Generator) -> np.ndarray:
    return _on_circle(np.linspace(0, 2 * np.pi, 32, endpoint=False))


def _rectangle(rng: np.random.Generator) -> np.ndarray:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    return corners * (1, rng.uniform(0.5, 1))


def _triangle(rng: np.random.Generator) -> np.ndarray:
    return _on_circle(np.arange(3) * 2 * np.pi / 3 + rng.uniform(-0.3, 0.3, 3))


OUTLINES = {'circle': _circle, 'rectangle': _rectangle, 'triangle': _triangle}


def _on_circle(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _turn(outline: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn an outline (N, 2) by a random angle."""
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    return outline @ np.array([(cos, sin), (-sin, cos)])
