"""Tests of the generated shapes: what MMDetection reads is what was drawn."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import pytest
from mmdet.datasets import CocoDataset

from reviewkd_mm.datasets import write_shapes
from reviewkd_mm.datasets.shapes import CLASSES, ShapeImages

# pycocotools is older than NumPy 2.
pytestmark = pytest.mark.filterwarnings('ignore:__array__ implementation:DeprecationWarning')
SMALL = dict(num_train=3, num_val=2, image_size=(48, 64))


def read(folder: Path, split: str) -> list[dict]:
    """Read a split as MMDetection does, its masks as arrays."""
    dataset = CocoDataset(
        data_root=str(folder),
        ann_file=f'annotations/instances_{split}.json',
        data_prefix=dict(img=f'{split}/'),
        metainfo=dict(classes=CLASSES),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[
            dict(type='mmdet.LoadImageFromFile'),
            dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
        ],
    )
    return [dataset[index] for index in range(len(dataset))]


def annotations(folder: Path, split: str = 'train') -> dict:
    return json.loads((folder / 'annotations' / f'instances_{split}.json').read_text())


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope='module')
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes on a background without strokes and noise."""
    folder = tmp_path_factory.mktemp('data') / 'plain'
    return write_shapes(folder, num_train=30, num_val=2, max_shapes=6, clutter=0, noise=0)


def test_mmdetection_reads_both_splits(tmp_path):
    folder = write_shapes(tmp_path / 'shapes', **SMALL)
    train, val = read(folder, 'train'), read(folder, 'val')

    assert [len(train), len(val)] == [3, 2]
    for image in (*train, *val):
        assert image['img'].shape == (48, 64, 3)
        assert 1 <= len(image['gt_bboxes']) <= 6
        assert set(image['gt_bboxes_labels']) <= {0, 1, 2}


def test_a_mask_is_what_was_painted(plain):
    images = read(plain, 'train')

    assert len(images) == 30
    for image in images:
        for mask in image['gt_masks'].to_ndarray().astype(bool):
            colours = np.unique(image['img'][mask], axis=0)
            assert len(colours) == 1, 'a shape has one colour'
            painted = (image['img'] == colours[0]).all(-1)
            assert (mask & painted).sum() / (mask | painted).sum() > 0.99


def test_no_shape_hides_a_part_of_another(plain):
    for image in read(plain, 'train'):
        assert image['gt_masks'].to_ndarray().sum(0).max() == 1


def test_a_box_is_the_bounds_of_its_polygon(plain):
    content = annotations(plain)
    for shape in content['annotations']:
        (polygon,) = shape['segmentation']
        x, y, width, height = shape['bbox']
        xs, ys = polygon[::2], polygon[1::2]
        assert (x, y) == (min(xs), min(ys))
        assert (x + width, y + height) == pytest.approx((max(xs), max(ys)), abs=1e-6)
        assert x >= 0
        assert y >= 0
        assert x + width <= 96
        assert y + height <= 96


def test_box_area_and_mask_agree(plain):
    areas = iter(shape['area'] for shape in annotations(plain)['annotations'])
    for image in read(plain, 'train'):
        boxes = image['gt_bboxes'].tensor.numpy()
        for mask, box in zip(image['gt_masks'].to_ndarray(), boxes, strict=True):
            rows, columns = np.nonzero(mask)
            low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
            # The tip of a triangle may be narrower than a pixel.
            np.testing.assert_allclose((*low, *high), box, atol=2.5)
            assert mask.sum() == next(areas)


def test_a_class_has_its_form(plain):
    """How much of its bounding circle a shape fills tells the three apart."""
    fill = {name: [] for name in CLASSES}
    for shape in annotations(plain)['annotations']:
        points = np.reshape(shape['segmentation'], (-1, 2))
        diameter = np.linalg.norm(points[:, None] - points, axis=-1).max()
        name = CLASSES[shape['category_id'] - 1]
        fill[name].append(shape['area'] / (np.pi / 4 * diameter**2))

    assert all(len(values) > 10 for values in fill.values())
    assert min(fill['circle']) > 0.9
    assert max(fill['rectangle']) < 0.75
    assert max(fill['triangle']) < 0.65
    corners = {'circle': 32, 'rectangle': 4, 'triangle': 3}
    for shape in annotations(plain)['annotations']:
        assert len(shape['segmentation'][0]) == 2 * corners[CLASSES[shape['category_id'] - 1]]


def test_sizes_vary_within_the_scale(plain):
    sides = [max(shape['bbox'][2:]) for shape in annotations(plain)['annotations']]

    low, high = ShapeImages().scale
    assert min(sides) >= low * 96 - 0.01
    assert max(sides) <= high * 96 + 0.01
    assert max(sides) > 1.8 * min(sides)


def test_the_background_is_cluttered_and_noisy():
    images = [ShapeImages(**kwargs).draw('train', 0)[0] for kwargs in (dict(), dict(noise=0))]
    quiet, _ = ShapeImages(noise=0, clutter=0).draw('train', 0)

    assert np.std(images[0].astype(float) - images[1]) > 5
    assert (images[1] != quiet).any(-1).mean() > 0.02


def test_settings_and_seed_decide_every_byte(tmp_path):
    same, again, other = (
        content(write_shapes(tmp_path / name, **SMALL, seed=seed))
        for name, seed in (('a', 3), ('b', 3), ('c', 4))
    )

    assert same == again
    assert len(same) == 3 + 2 + 2
    assert all(same[name] != other[name] for name in same)


def test_an_image_depends_on_its_index_alone(tmp_path):
    few = write_shapes(tmp_path / 'few', **SMALL)
    more = write_shapes(tmp_path / 'more', **{**SMALL, 'num_train': 5, 'num_val': 3})

    for name in content(few):
        if name.endswith('.png'):
            assert (few / name).read_bytes() == (more / name).read_bytes()
    size = len(annotations(few)['annotations'])
    assert annotations(few)['annotations'] == annotations(more)['annotations'][:size]
    assert (few / 'train/000000.png').read_bytes() != (few / 'val/000000.png').read_bytes()


def test_the_same_data_set_is_kept(tmp_path):
    folder = write_shapes(tmp_path / 'shapes', **SMALL)
    mark = folder / 'train' / 'mark'
    mark.touch()

    assert write_shapes(folder, **SMALL) == folder
    assert mark.exists()


def test_another_data_set_is_not_overwritten(tmp_path):
    folder = write_shapes(tmp_path / 'shapes', **SMALL)
    before = content(folder)

    with pytest.raises(ValueError, match=r'shapes of other settings \(seed=0\)'):
        write_shapes(folder, **SMALL, seed=1)
    assert content(folder) == before


def test_other_files_are_not_overwritten(tmp_path):
    (tmp_path / 'thesis.txt').write_text('years of work')

    with pytest.raises(ValueError, match=r'expected a new or an empty folder.*something else'):
        write_shapes(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / 'shapes').mkdir()

    write_shapes(tmp_path / 'shapes', **SMALL)

    assert len(read(tmp_path / 'shapes', 'train')) == 3


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    write, paths = mmcv.imwrite, []

    def imwrite(image: np.ndarray, path: str) -> None:
        paths.append(path)
        if len(paths) == 3:
            raise OSError('disk full')
        write(image, path)

    monkeypatch.setattr(mmcv, 'imwrite', imwrite)
    with pytest.raises(OSError, match='disk full'):
        write_shapes(tmp_path / 'shapes', **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_several_writers_agree(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: write_shapes(tmp_path / 'shapes', **SMALL), range(4)))

    assert folders == [tmp_path / 'shapes'] * 4
    assert [path.name for path in tmp_path.iterdir()] == ['shapes']
    assert len(read(tmp_path / 'shapes', 'train')) == 3


@pytest.mark.parametrize(
    ('name', 'value', 'expected'),
    [
        ('num_train', 0, 'at least 1'),
        ('num_val', -1, 'at least 1'),
        ('image_size', (96, 16), '32 pixels at least'),
        ('seed', -1, 'at least 0'),
        ('max_shapes', 0, 'at least 1'),
        ('scale', (0.5, 0.2), '0 < smallest <= largest <= 1'),
        ('noise', -1.0, 'at least 0'),
    ],
)
def test_a_setting_out_of_range(tmp_path, name: str, value: Any, expected: str):
    with pytest.raises(ValueError, match=rf'{name}=.*: expected .*{expected}'):
        write_shapes(tmp_path / 'shapes', **{**SMALL, name: value})
    assert not (tmp_path / 'shapes').exists()
