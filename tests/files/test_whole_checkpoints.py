"""A checkpoint that lost or changed a byte is found out."""

from __future__ import annotations

import pytest
import torch

from reviewkd_mm.files.whole_checkpoints import find_newest, is_whole, last_named, numbered


@pytest.fixture
def saved(tmp_path):
    torch.save(dict(weights=torch.arange(2000.0), meta=dict(epoch=1)), tmp_path / 'epoch_1.pth')
    return tmp_path / 'epoch_1.pth'


def test_a_checkpoint_is_whole(saved):
    assert is_whole(saved)
    assert is_whole(str(saved))


@pytest.mark.parametrize('part', [0.0, 0.3, 0.9, 0.999])
def test_a_part_of_it_is_not(saved, part):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * part)])

    assert not is_whole(saved)


def test_a_bit_that_was_turned_shows(saved):
    content = bytearray(saved.read_bytes())
    at = content.index(torch.tensor([1000.0, 1001.0]).numpy().tobytes())
    content[at] ^= 1
    saved.write_bytes(content)
    assert torch.load(saved)['weights'][1000] != 1000, 'torch does not notice'

    assert not is_whole(saved)


def test_what_is_not_there_is_not_whole(tmp_path):
    assert not is_whole(tmp_path / 'epoch_1.pth')


def test_a_folder_cannot_be_checked(tmp_path):
    assert is_whole(tmp_path)


def test_numbers_count_not_letters(tmp_path):
    names = ['epoch_9.pth', 'epoch_10.pth', 'best_epoch_11.pth', 'epoch_12.pth.77.partial']
    for name in names:
        (tmp_path / name).touch()

    assert [file.name for file in numbered(tmp_path)] == ['epoch_10.pth', 'epoch_9.pth']
    assert numbered(tmp_path, 'best_epoch_{}.pth') == [tmp_path / 'best_epoch_11.pth']


def test_without_a_name_the_newest_counts(saved, tmp_path):
    assert find_newest(tmp_path) == (str(saved), [])
    (tmp_path / 'last_checkpoint').touch()
    assert find_newest(tmp_path) == (str(saved), [])


def test_a_named_checkpoint_that_is_gone_is_passed_over(saved, tmp_path):
    gone = str(tmp_path / 'epoch_2.pth')
    (tmp_path / 'last_checkpoint').write_text(gone)

    assert find_newest(tmp_path) == (str(saved), [gone])


def test_a_checkpoint_elsewhere_is_taken_by_its_name(tmp_path):
    name = 's3://bucket/epoch_1.pth'
    (tmp_path / 'last_checkpoint').write_text(name)

    assert last_named(tmp_path) == name
    assert find_newest(tmp_path) == (name, [])


def test_an_empty_folder_has_none(tmp_path):
    assert find_newest(tmp_path) == (None, [])
    assert find_newest(tmp_path / 'missing') == (None, [])
