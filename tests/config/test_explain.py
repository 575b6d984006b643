"""What a library says of a wrong setting comes with the config key; other errors pass."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from torch import nn

from reviewkd_mm.config.explain import explained
from reviewkd_mm.registry import DATASETS, MODELS

CFG = dict(model=dict(type='Linear', in_features=2), other=dict(type='HCLLoss', weight=1))


def test_an_error_that_is_not_about_settings_passes():
    with pytest.raises(OSError, match=r'^disk full$'), explained(CFG, always=True):
        raise OSError('disk full')
    with pytest.raises(torch.OutOfMemoryError), explained(CFG, always=True):
        raise torch.OutOfMemoryError('out of memory')


def test_an_error_in_a_training_keeps_its_type():
    with pytest.raises(IndexError, match=r'^list index out of range$'), explained(CFG):
        [][0]


def test_an_error_of_ours_passes():
    with pytest.raises(ValueError, match=r'^loss_weight=-1: expected'), explained(CFG):
        MODELS.build(dict(type='HCLLoss', loss_weight=-1))


def test_the_key_of_a_setting_that_a_class_lacks():
    message = r"^other: HCLLoss has no setting 'weight'=1; did you mean 'loss_weight'"
    with pytest.raises(ValueError, match=message), explained(CFG):
        MODELS.build(CFG['other'])


@pytest.mark.parametrize('classes', [0, 2])
def test_a_folder_without_images_is_named(tmp_path, classes):
    for index in range(classes):
        (tmp_path / str(index)).mkdir()
    dataset = dict(type='mmpretrain.CustomDataset', data_root=str(tmp_path), pipeline=[])
    metainfo = dict(classes=('a', 'b'))

    message = rf"expected a folder of images for each class, got train\.data_root='{tmp_path}'$"
    with pytest.raises(ValueError, match=message), explained(dict(train=dataset)):
        DATASETS.build({**dataset, 'metainfo': metainfo})


def test_a_config_is_searched_as_a_dict_is():
    cfg = Config(dict(hooks=[dict(type='A'), dict(type='HCLLos')]))
    message = r"^hooks\.1\.type='HCLLos': there is no such model in 'reviewkd_mm'; did.*'HCLLoss'"
    with pytest.raises(ValueError, match=message), explained(cfg):
        MODELS.build(cfg.hooks[1].to_dict())


def test_a_missing_setting_and_an_error_of_no_known_kind(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'PickyLayer', Picky)
    with pytest.raises(ValueError, match=r"^net\.0: the key 'size' is missing, which Picky"):
        build([dict(type='PickyLayer')])
    with pytest.raises(
        ValueError, match=r"^net\.0: expected other settings than .*'size': 0.*Zero"
    ):
        build([dict(type='PickyLayer', size=0)])


class Picky(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.step = 1 / size


def build(layers: list[dict]) -> None:
    with explained(dict(net=layers), always=True):
        MODELS.build(layers[0])
