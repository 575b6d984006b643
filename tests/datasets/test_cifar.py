"""Tests of CIFAR-100: reading, the md5 check, and errors that say what to do."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.datasets.transforms import RandomCrop
from torch.utils.data import DataLoader

from reviewkd_mm.datasets import CIFAR100
from reviewkd_mm.registry import DATASETS

SHARED = Path(__file__).resolve().parents[3] / 'shared' / 'data'


def write_split(folder: Path, name: str, number: int) -> None:
    rng = np.random.default_rng(number)
    content = {
        'data': rng.integers(0, 256, (number, 3072), dtype=np.uint8),
        'fine_labels': rng.integers(0, 100, number).tolist(),
    }
    (folder / name).write_bytes(pickle.dumps(content))


@pytest.fixture
def root(tmp_path) -> Path:
    """Return a data_root with a few random images in CIFAR-100's layout."""
    folder = tmp_path / 'data' / 'cifar-100-python'
    folder.mkdir(parents=True)
    write_split(folder, 'train', 30)
    write_split(folder, 'test', 10)
    return folder.parent


@pytest.fixture(autouse=True)
def forbid_downloads(monkeypatch):
    """Fail where a download is tried."""

    def refuse(*args, **kwargs):
        raise AssertionError('a download was tried')

    monkeypatch.setattr('mmpretrain.datasets.cifar.download_and_extract_archive', refuse)


def test_images_and_labels_are_read(root):
    content = pickle.loads((root / 'cifar-100-python' / 'train').read_bytes())

    dataset = CIFAR100(data_root=str(root), check_md5=False)

    assert len(dataset) == 30
    assert len(dataset.metainfo['classes']) == 100
    item = dataset[7]
    assert item['img'].shape == (32, 32, 3)
    assert item['img'].dtype == np.uint8
    np.testing.assert_array_equal(item['img'].transpose(2, 0, 1).ravel(), content['data'][7])
    assert item['gt_label'] == content['fine_labels'][7]
    assert len(CIFAR100(data_root=str(root), split='test', check_md5=False)) == 10


def test_the_first_images_alone(root):
    whole = CIFAR100(data_root=str(root), check_md5=False)
    first = CIFAR100(data_root=str(root), check_md5=False, indices=12)

    assert len(first) == 12
    np.testing.assert_array_equal(first[11]['img'], whole[11]['img'])


def build_loader(
    root: Path, wrapper: dict | None = None, num_workers: int = 0, seed: int = 0
) -> DataLoader:
    """Build a dataloader of the training split as the CIFAR configs set it up."""
    dataset = dict(
        type='reviewkd_mm.CIFAR100',
        data_root=str(root),
        check_md5=False,
        pipeline=[
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    )
    config = dict(
        dataset=dataset if wrapper is None else dict(wrapper, dataset=dataset),
        batch_size=5,
        num_workers=num_workers,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return Runner.build_dataloader(config, seed=seed)


def read_labels(batch: dict) -> list[int]:
    return [sample.gt_label.item() for sample in batch['data_samples']]


def read_epoch(loader: DataLoader) -> torch.Tensor:
    return torch.cat([batch['inputs'] for batch in loader])


def test_the_pipeline_of_the_cifar_configs(root):
    loader = build_loader(root)

    batch = next(iter(loader))

    assert batch['inputs'].shape == (5, 3, 32, 32)
    assert batch['inputs'].dtype == torch.uint8
    assert read_labels(batch) == loader.dataset.get_gt_labels()[:5].tolist()


def test_a_batch_is_cropped_and_flipped_at_once(root, monkeypatch):
    """One image at a time costs several times as much."""
    monkeypatch.setattr(RandomCrop, 'transform', None)
    monkeypatch.setattr(RandomFlip, 'transform', None)

    assert len(list(build_loader(root))) == 6


def test_the_seed_decides_what_the_workers_draw(root):
    first, again, other = (
        read_epoch(build_loader(root, num_workers=2, seed=seed)) for seed in (0, 0, 1)
    )

    assert first.shape == (30, 3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_wrapper_that_asks_for_one_image_at_a_time(root):
    loader = build_loader(root, wrapper=dict(type='RepeatDataset', times=2))

    labels = [label for batch in loader for label in read_labels(batch)]

    assert labels == loader.dataset.dataset.get_gt_labels().tolist() * 2


def test_original_files_pass_the_md5_check(root, monkeypatch):
    for split in ('train', 'test'):
        md5 = hashlib.md5((root / 'cifar-100-python' / split).read_bytes()).hexdigest()
        monkeypatch.setattr(CIFAR100, f'{split}_list', [[split, md5]])

    assert len(CIFAR100(data_root=str(root))) == 30


def test_other_files_fail_the_md5_check(root):
    with pytest.raises(ValueError, match='check_md5=False') as caught:
        CIFAR100(data_root=str(root))
    assert f'data_root={str(root)!r}' in str(caught.value)


def test_switching_the_check_off_does_so_for_one_data_set_only(root):
    CIFAR100(data_root=str(root), check_md5=False)

    with pytest.raises(ValueError, match='md5'):
        CIFAR100(data_root=str(root))


def test_a_missing_folder_is_named_without_a_download(root):
    wrong = root.parent / 'dat'

    with pytest.raises(FileNotFoundError) as caught:
        DATASETS.build(dict(type='reviewkd_mm.CIFAR100', data_root=str(wrong)))

    message = str(caught.value)
    assert f'data_root={str(wrong)!r}' in message
    assert 'folder cifar-100-python with the files train, test, meta' in message
    assert f'did you mean {str(root)!r}' in message
    assert 'download=True' in message
    assert 'cifar-100-python.tar.gz' in message


def test_the_runner_fails_before_the_first_iteration(tmp_path):
    loader = dict(
        dataset=dict(type='reviewkd_mm.CIFAR100', data_root=str(tmp_path), lazy_init=True),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=1,
    )

    with pytest.raises(FileNotFoundError, match='The folder exists; it is empty'):
        Runner.build_dataloader(loader)


def test_a_parent_of_the_right_folder_is_recognised(root):
    with pytest.raises(FileNotFoundError, match=f'Did you mean {str(root)!r}'):
        CIFAR100(data_root=str(root.parent))


def test_the_data_folder_itself_is_recognised(root):
    with pytest.raises(FileNotFoundError, match=f'Did you mean its parent, {str(root)!r}'):
        CIFAR100(data_root=str(root / 'cifar-100-python'))


def test_a_packed_archive_is_recognised(tmp_path):
    (tmp_path / 'cifar-100-python.tar.gz').touch()

    with pytest.raises(FileNotFoundError, match=r'archive cifar-100-python\.tar\.gz is there'):
        CIFAR100(data_root=str(tmp_path))


def test_what_is_there_instead_is_listed(tmp_path):
    (tmp_path / 'cifar-10-batches-py').mkdir()

    with pytest.raises(FileNotFoundError, match='it holds cifar-10-batches-py'):
        CIFAR100(data_root=str(tmp_path))


def test_a_missing_file_is_named(root):
    (root / 'cifar-100-python' / 'test').unlink()

    with pytest.raises(FileNotFoundError, match='it lacks test'):
        CIFAR100(data_root=str(root), check_md5=False)


def test_the_data_prefix_is_named_where_the_config_uses_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"CIFAR100: data_prefix='.*nowhere'"):
        CIFAR100(data_prefix=str(tmp_path / 'nowhere'))


def test_no_path_at_all():
    with pytest.raises(ValueError, match="data_root=''"):
        CIFAR100()


@pytest.mark.parametrize(
    'content',
    [b'', b'<html>not found</html>', pickle.dumps([1, 2]), pickle.dumps({'data': 0})],
    ids=['empty', 'html', 'list', 'no labels'],
)
def test_a_file_that_is_something_else(root, content):
    (root / 'cifar-100-python' / 'train').write_bytes(content)

    with pytest.raises(ValueError, match=r'cannot read train in .* cut off or is no pickled'):
        CIFAR100(data_root=str(root), check_md5=False)


def test_a_file_that_is_cut_off(root):
    file = root / 'cifar-100-python' / 'test'
    file.write_bytes(file.read_bytes()[:5000])

    with pytest.raises(ValueError, match='cannot read test in'):
        CIFAR100(data_root=str(root), split='test', check_md5=False)


def test_a_download_is_tried_only_when_asked_for(tmp_path):
    with pytest.raises(AssertionError, match='a download was tried'):
        CIFAR100(data_root=str(tmp_path), download=True)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f'needs CIFAR-100 in {SHARED.name}')
def test_a_reordered_copy_of_the_real_data():
    test = CIFAR100(data_root=str(SHARED), split='test', check_md5=False)

    assert len(test) == 10000
    assert set(np.bincount(test.get_gt_labels())) == {100}
    mean = np.mean([test[i]['img'].mean((0, 1)) for i in range(0, 10000, 20)], axis=0)
    np.testing.assert_allclose(mean, [129.3, 124.1, 112.4], atol=4)
