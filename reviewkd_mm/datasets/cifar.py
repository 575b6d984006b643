"""CIFAR-100 with an optional md5 check and no download that nobody asked for."""

from __future__ import annotations

import difflib
import pickle
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, get_file_backend
from mmpretrain.datasets import cifar
from mmpretrain.datasets.base_dataset import expanduser

from reviewkd_mm.datasets.batched_pipeline import BatchedPipeline
from reviewkd_mm.errors import ConfigError, MissingFileError
from reviewkd_mm.registry import DATASETS

# What unpickling or reading a file that is cut off or is something else may raise.
UNREADABLE = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
)


@DATASETS.register_module()
class CIFAR100(BatchedPipeline, cifar.CIFAR100):
    """MMPretrain's CIFAR-100, faster, and also for a copy whose files have other md5 sums.

    A dataloader's batch is cropped and flipped at once, see `BatchedPipeline`.

    Args:
        data_root (str): The folder that holds ``cifar-100-python``. Defaults to ``''``.
        split (str): ``'train'`` (50,000 images) or ``'test'`` (10,000). Defaults to ``'train'``.
        metainfo (dict | None): Meta information, such as the class names. Defaults to None.
        download (bool): Download the archive where the data is missing. Defaults to False.
        data_prefix (str): Path below ``data_root``. Defaults to ``''``.
        test_mode (bool): Whether an image that cannot be read is an error. Defaults to False.
        check_md5 (bool): Compare the files with the original archive's. A copy in another order,
            or with fewer images, needs False. Defaults to True.
        **kwargs: Arguments of ``mmpretrain.datasets.BaseDataset``, such as ``pipeline`` and
            ``indices=20000``, the first 20,000 images alone.

    Raises:
        FileNotFoundError: If the files are missing and ``download`` is False.
        ValueError: If a file is broken or is not the original one.

    Examples:
        >>> dataset = dict(type='reviewkd_mm.CIFAR100', data_root='data/cifar100', split='test')
    """

    _is_intact = False

    def __init__(
        self,
        data_root: str = '',
        split: str = 'train',
        metainfo: dict | None = None,
        download: bool = False,
        data_prefix: str = '',
        test_mode: bool = False,
        check_md5: bool = True,
        **kwargs: Any,
    ) -> None:
        if not check_md5:
            self.train_list = [[name, None] for name, _ in self.train_list]
            self.test_list = [[name, None] for name, _ in self.test_list]
            self.meta = {**self.meta, 'md5': None}
        self._setting = _describe_setting(data_root, data_prefix)
        super().__init__(
            data_root=expanduser(data_root),
            split=split,
            metainfo=metainfo,
            download=download,
            data_prefix=expanduser(data_prefix),
            test_mode=test_mode,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Read the images and labels of the split.

        Returns:
            list[dict]: ``img``, a uint8 array (32, 32, 3) in RGB order, and ``gt_label``, an int.
        """
        root = self.data_prefix['root']
        is_local = isinstance(get_file_backend(root, enable_singleton=True), LocalBackend)
        if is_local and not self.download:
            self._require_files(Path(root))
        try:
            return super().load_data_list()
        except UNREADABLE as error:
            names = [name for name, _ in getattr(self, f'{self.split}_list')]
            raise ConfigError(
                f'{self._setting}: cannot read {", ".join(names)} in '
                f'{Path(root, self.base_folder)} ({type(error).__name__}: {error}): the file is '
                f'cut off or is no pickled CIFAR-100. {self._how_to_get()}'
            ) from error

    def _check_integrity(self) -> bool:
        # MMPretrain asks twice, and reads every file for it.
        self._is_intact = self._is_intact or super()._check_integrity()
        return self._is_intact

    def _require_files(self, root: Path) -> None:
        """Raise an error that says what is missing, and what is there instead."""
        folder = root / self.base_folder
        names = [name for name, _ in (*self.train_list, *self.test_list)]
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            where = 'is missing' if not folder.is_dir() else f'lacks {", ".join(missing)}'
            raise MissingFileError(
                f'{self._setting}: expected the folder {self.base_folder} with the files '
                f'{", ".join(names)}, meta in {root.absolute()}, but it {where}. '
                f'{self._what_is_there(root)} {self._how_to_get()}'
            )
        if not self._check_integrity():
            raise ConfigError(
                f'{self._setting}: {", ".join(names)} in {folder.absolute()} are not the original '
                'files (their md5 sums differ). A re-ordered copy or a subset can be read with '
                f'check_md5=False; a broken download cannot. {self._how_to_get()}'
            )

    def _what_is_there(self, root: Path) -> str:
        if root.name == self.base_folder and (root / self.train_list[0][0]).is_file():
            return f'Did you mean its parent, {str(root.parent)!r}?'
        if (root / self.filename).is_file():
            return f'The archive {self.filename} is there: unpack it.'
        if not root.is_dir():
            return _describe_nearest(root.absolute())
        below = sorted(root.glob(f'*/{self.base_folder}'))
        if below:
            return f'Did you mean {str(below[0].parent)!r}?'
        return f'The folder exists; {_list_folder(root)}.'

    def _how_to_get(self) -> str:
        return (
            f'To get the data: set download=True, or unpack {self.filename} (python version, md5 '
            f'{self.tgz_md5}) there.'
        )


def _describe_setting(data_root: str, data_prefix: str) -> str:
    """Name the config keys that say where the data is, as the user wrote them."""
    if not data_root and not data_prefix:
        raise ConfigError(
            "CIFAR100: data_root='' says nothing: expected the folder that holds cifar-100-python"
        )
    settings = {'data_root': data_root, 'data_prefix': data_prefix}
    return 'CIFAR100: ' + ', '.join(f'{key}={value!r}' for key, value in settings.items() if value)


def _describe_nearest(missing: Path) -> str:
    """Say how much of a path exists, and what is there in place of the rest."""
    nearest = next(parent for parent in missing.parents if parent.is_dir())
    wanted = missing.relative_to(nearest).parts[0]
    near = difflib.get_close_matches(wanted, _visible_names(nearest), n=1)
    if near:
        return f'There is no {str(nearest / wanted)!r}; did you mean {str(nearest / near[0])!r}?'
    return f'The nearest folder that exists is {nearest}; {_list_folder(nearest)}.'


def _visible_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith('.'))


def _list_folder(folder: Path, limit: int = 8) -> str:
    names = _visible_names(folder)
    if not names:
        return 'it is empty'
    more = ', ...' if len(names) > limit else ''
    return f'it holds {", ".join(names[:limit])}{more}'
