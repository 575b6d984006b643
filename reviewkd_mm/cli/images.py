"""Finding the images that a tool is given, and where their drawings go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

import cv2
import mmcv
from torchvision.datasets.folder import IMG_EXTENSIONS

from reviewkd_mm.errors import ConfigError, MissingFileError
from reviewkd_mm.utils import did_you_mean

KEPT_SUFFIXES = ('.jpg', '.jpeg', '.png')


def find_images(paths: Sequence[str]) -> list[Path]:
    """Return the images that files, folders and glob patterns name, each of them readable.

    Args:
        paths (Sequence[str]): Files; folders, whose images are taken but not those of their
            subfolders; and patterns, in which ``**`` is any number of folders.

    Returns:
        list[Path]: The images, each once, in the order of ``paths`` and there by name.

    Raises:
        FileNotFoundError: If there is no such file, folder or match.
        ValueError: If a file cannot be read as an image.
    """
    found = {os.path.abspath(image): image for path in paths for image in _expand(path)}
    images = list(found.values())
    for image in images:
        _check_readable(image)
    return images


def name_drawings(images: Sequence[Path], out_dir: str | Path) -> list[Path]:
    """Choose where the drawing of each image goes.

    Below ``out_dir`` a drawing has the image's path below the folder that all images share, so
    that images of one name in several folders keep apart. What is no JPEG becomes a PNG.

    Args:
        images (Sequence[Path]): The images.
        out_dir (str | Path): The folder of the drawings.

    Returns:
        list[Path]: A path for each image.

    Raises:
        ValueError: If ``out_dir`` is a file, or a drawing would overwrite an image.
    """
    out_dir = Path(out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise ConfigError(f"--out-dir='{out_dir}' is a file: expected a folder")
    absolute = [Path(os.path.abspath(image)) for image in images]
    shared = os.path.commonpath([image.parent for image in absolute])
    drawings = [_with_suffix(out_dir / image.relative_to(shared)) for image in absolute]
    originals = {image.resolve() for image in absolute}
    for drawing in drawings:
        if drawing.resolve() in originals:
            raise ConfigError(
                f"--out-dir='{out_dir}': the image '{drawing}' would be overwritten by its "
                'drawing; choose another folder'
            )
    return drawings


def _with_suffix(path: Path) -> Path:
    keep = path.suffix.lower() in KEPT_SUFFIXES
    return path if keep else path.with_name(f'{path.name}.png')


def _expand(path: str) -> list[Path]:
    file = Path(path).expanduser()
    if file.is_file():
        return [file]
    is_folder = file.is_dir()
    inside = file.iterdir() if is_folder else map(Path, glob(str(file), recursive=True))
    images = sorted(p for p in inside if p.suffix.lower() in IMG_EXTENSIONS and p.is_file())
    if images:
        return images
    if is_folder or has_magic(path):
        what = 'this folder holds' if is_folder else 'this pattern matches'
        raise MissingFileError(
            f"IMAGE='{path}': {what} no image; the suffixes are {', '.join(IMG_EXTENSIONS)}"
        )
    beside = sorted(p.name for p in file.parent.glob('*') if not p.name.startswith('.'))
    raise MissingFileError(
        f"IMAGE='{path}': there is no such file or folder; {did_you_mean(file.name, beside)}"
    )


def _check_readable(image: Path) -> None:
    try:
        pixels = mmcv.imread(image)
    except (cv2.error, OSError) as error:  # OpenCV refuses an empty file.
        raise ConfigError(f"IMAGE='{image}' cannot be read: {str(error).strip()}") from error
    if pixels is None:
        raise ConfigError(f"IMAGE='{image}' is no image that can be read")
