"""Generated data in the folders and formats that the configs name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmdet.datasets import CocoDataset, CocoPanopticDataset

from reviewkd_mm.datasets.shapes import CLASSES, SPLITS, ShapeImages

IMAGES = dict(train=8, val=4)
DRAWING = ShapeImages(image_size=(160, 160), noise=0)
BCCD = ('RBC', 'WBC', 'Platelets')
STREET_CLASSES = 19


def write_data(root: Path) -> None:
    """Write ``data/`` for every config, 8 images to learn from and 4 to validate on.

    Args:
        root (Path): The folder that a training runs in.
    """
    data = root / 'data'
    _write_cifar(data / 'cifar100' / 'cifar-100-python')
    _write_imagenet(data / 'imagenet')
    _write_cityscapes(data / 'cityscapes')
    for split in SPLITS:
        coco = f'{split}2017'
        _write_coco(data / 'coco', split, CocoDataset.METAINFO['classes'], coco, coco)
        _write_panoptic(data / 'coco', split)
        _write_coco(data / 'bccd', split, BCCD, 'images', split)
        _write_coco(data / 'nuclei', split, ('nucleus',), 'images', split)
        _write_coco(data / 'shapes', split, CLASSES, split, split)


def _draw_noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _write_cifar(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, number in zip(('train', 'test'), IMAGES.values(), strict=True):
        content = dict(data=_draw_noise(number, 3072), fine_labels=[*range(number)])
        (folder / name).write_bytes(pickle.dumps(content))


def _write_imagenet(folder: Path) -> None:
    (folder / 'meta').mkdir(parents=True)
    for split, number in IMAGES.items():
        for index, image in enumerate(_draw_noise(number, 80, 80, 3)):
            mmcv.imwrite(image, str(folder / split / f'{index}.png'))
        lines = [f'{index}.png {100 * index}' for index in range(number)]
        (folder / 'meta' / f'{split}.txt').write_text('\n'.join(lines))


def _write_cityscapes(folder: Path) -> None:
    for split, number in IMAGES.items():
        for index, image in enumerate(_draw_noise(number, 128, 256, 3)):
            name = f'{split}/town/town_{index}'
            labels = image[..., 0] % STREET_CLASSES
            mmcv.imwrite(image, str(folder / 'leftImg8bit' / f'{name}_leftImg8bit.png'))
            mmcv.imwrite(labels, str(folder / 'gtFine' / f'{name}_gtFine_labelTrainIds.png'))


def _write_coco(
    folder: Path, split: str, classes: tuple[str, ...], images: str, suffix: str
) -> None:
    """Write shapes as if they were of the first of these classes."""
    annotations = []
    for index in range(IMAGES[split]):
        image, shapes = DRAWING.draw(split, index)
        mmcv.imwrite(image, str(folder / images / _name(split, index)))
        for shape in shapes:
            category = shape['category_id'] % len(classes) + 1
            number = len(annotations) + 1
            annotations.append(dict(shape, id=number, image_id=index, category_id=category))
    content = dict(annotations=annotations, categories=_categories(classes))
    _write_annotations(folder / 'annotations' / f'instances_{suffix}.json', split, content)


def _write_panoptic(folder: Path, split: str) -> None:
    """Write shapes as things on a background of the first kind of stuff."""
    things, stuff = (
        CocoPanopticDataset.METAINFO[f'{kind}_classes'] for kind in ('thing', 'stuff')
    )
    categories = [
        dict(category, isthing=int(category['id'] <= len(things)))
        for category in _categories((*things, *stuff))
    ]
    annotations = []
    suffix = f'panoptic_{split}2017'
    for index in range(IMAGES[split]):
        ids, segments = _draw_segments(split, index, background=len(things) + 1)
        # An id is read from red, green and blue; OpenCV writes blue first.
        zeros = np.zeros_like(ids)
        image = np.stack([zeros, zeros, ids], axis=-1)
        mmcv.imwrite(image, str(folder / 'annotations' / suffix / _name(split, index)))
        annotations.append(
            dict(image_id=index, file_name=_name(split, index), segments_info=segments)
        )
    content = dict(annotations=annotations, categories=categories)
    _write_annotations(folder / 'annotations' / f'{suffix}.json', split, content)


def _draw_segments(split: str, index: int, background: int) -> tuple[np.ndarray, list[dict]]:
    """Draw the id of each pixel's segment, (H, W) from 1, and describe the segments."""
    image, shapes = DRAWING.draw(split, index)
    ids = np.ones(image.shape[:2], np.uint8)
    segments = [dict(id=1, category_id=background, iscrowd=0)]
    for number, shape in enumerate(shapes, start=2):
        polygon = np.reshape(shape['segmentation'][0], (-1, 2)).round().astype(np.int32)
        cv2.fillPoly(ids, [polygon], number)
        segments.append(dict(id=number, category_id=shape['category_id'], iscrowd=0))
    for segment in segments:
        rows, columns = np.nonzero(ids == segment['id'])
        x, y = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) + 1 - x, int(rows.max()) + 1 - y
        segment.update(area=len(rows), bbox=[x, y, width, height])
    return ids, segments


def _write_annotations(file: Path, split: str, content: dict[str, Any]) -> None:
    height, width = DRAWING.image_size
    images = [
        dict(id=index, file_name=_name(split, index), height=height, width=width)
        for index in range(IMAGES[split])
    ]
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(dict(content, images=images)))


def _categories(classes: tuple[str, ...]) -> list[dict[str, Any]]:
    return [dict(id=index, name=name) for index, name in enumerate(classes, start=1)]


def _name(split: str, index: int) -> str:
    return f'{split}_{index}.png'
