"""Tests of finding images and of naming their drawings."""

from __future__ import annotations

from pathlib import Path

import pytest

from reviewkd_mm.cli.images import find_images, name_drawings
from tests.inference.students import write_image


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ('b.png', 'a.JPG', 'sub/c.bmp'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_image(tmp_path / name, 4, 5)
    (tmp_path / 'notes.txt').write_text('no image')
    return tmp_path


def names(images: list[Path], folder: Path) -> list[str]:
    return [str(image.relative_to(folder)) for image in images]


@pytest.mark.parametrize(
    ('paths', 'found'),
    [
        (['b.png', 'a.JPG'], ['b.png', 'a.JPG']),
        ([''], ['a.JPG', 'b.png']),
        (['sub', '*.png'], ['sub/c.bmp', 'b.png']),
        (['**/*'], ['a.JPG', 'b.png', 'sub/c.bmp']),
        (['b.png', '', 'sub/../b.png'], ['b.png', 'a.JPG']),
    ],
    ids=['files', 'folder', 'pattern', 'pattern of folders', 'each once'],
)
def test_files_folders_and_patterns(folder, paths, found):
    images = find_images([str(folder / path) for path in paths])

    assert [image.resolve() for image in images] == [folder / name for name in found]


def test_a_file_whose_name_looks_like_a_pattern(folder):
    image = write_image(folder / 'scan[1].png', 4, 5)

    assert find_images([str(image)]) == [image]


def test_a_missing_file_names_the_nearest(folder):
    with pytest.raises(FileNotFoundError, match=r"IMAGE='.*bb\.png': there is no such .*'b\.png'"):
        find_images([str(folder / 'b.png'), str(folder / 'bb.png')])


@pytest.mark.parametrize(
    ('path', 'what'),
    [('empty', 'this folder holds no image'), ('*.gif', 'this pattern matches no image')],
)
def test_nothing_to_read(folder, path, what):
    (folder / 'empty').mkdir()

    with pytest.raises(FileNotFoundError, match=what):
        find_images([str(folder / path)])


@pytest.mark.parametrize('content', [b'', b'\x89PNG\r\n\x1a\n broken', b'text'])
def test_a_file_that_is_no_image(folder, content):
    (folder / 'z.png').write_bytes(content)

    with pytest.raises(ValueError, match=r"IMAGE='.*z\.png'"):
        find_images([str(folder)])


def test_images_of_one_folder_keep_their_names(folder):
    images = [folder / 'a.JPG', folder / 'b.png', folder / 'scan.tif']

    drawings = name_drawings(images, folder / 'out')

    assert names(drawings, folder / 'out') == ['a.JPG', 'b.png', 'scan.tif.png']


def test_images_of_one_name_in_two_folders_keep_apart(folder):
    images = [folder / 'x/1.png', folder / 'y/1.png', folder / 'y/z/1.png']

    drawings = name_drawings(images, folder / 'out')

    assert names(drawings, folder / 'out') == ['x/1.png', 'y/1.png', 'y/z/1.png']


def test_an_image_is_not_overwritten(folder):
    (folder / 'link').symlink_to(folder)

    with pytest.raises(ValueError, match=r"--out-dir='.*link'.*b\.png.* would be overwritten"):
        name_drawings([folder / 'sub/c.bmp', folder / 'b.png'], folder / 'link')


def test_the_folder_of_the_drawings_is_no_file(folder):
    with pytest.raises(ValueError, match=r"--out-dir='.*notes\.txt' is a file"):
        name_drawings([folder / 'b.png'], folder / 'notes.txt')
