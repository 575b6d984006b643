"""A teacher whose config names weights of its own needs no teacher_ckpt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reviewkd_mm.errors import ConfigError, MissingFileError, RunError
from tests.models.distillers.helpers import (
    assert_same_state,
    build,
    build_distiller,
    review,
    state_of,
    teacher_classifier,
)

BACKBONE = dict(
    teacher_ckpt=None,
    transfers=dict(review=review(student='backbone.layer3', teacher='backbone.layer3')),
)


class FromAfar(nn.Module):
    """A backbone that loads its weights while it is built, as those of timm do."""

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        self.layer3 = nn.Conv2d(3, 32, 3)
        if pretrained:
            nn.init.constant_(self.layer3.weight, 0.25)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layer3(x),)


@pytest.fixture
def trained() -> nn.Module:
    return build(teacher_classifier(), seed=7)


@pytest.fixture
def file(trained: nn.Module, tmp_path: Path) -> str:
    torch.save(trained.state_dict(), tmp_path / 'trained.pth')
    return str(tmp_path / 'trained.pth')


def pretrained(path: str, **kwargs) -> dict:
    return dict(type='Pretrained', checkpoint=path, **kwargs)


@pytest.mark.parametrize('key', ['init_cfg', 'list', 'pretrained'])
def test_the_checkpoint_of_the_teachers_own_config(trained, file, key):
    own = dict(
        init_cfg=dict(init_cfg=pretrained(file)),
        list=dict(init_cfg=[dict(type='Normal', layer='Linear', std=1.0), pretrained(file)]),
        pretrained=dict(pretrained=file),
    )

    distiller = build_distiller(teacher=teacher_classifier(**own[key]), teacher_ckpt=None)
    distiller.init_weights()

    assert_same_state(state_of(distiller.teacher), state_of(trained))


def test_a_given_checkpoint_comes_before(trained, file, tmp_path):
    torch.save(build(teacher_classifier(), seed=8).state_dict(), tmp_path / 'other.pth')
    teacher = teacher_classifier(init_cfg=pretrained(str(tmp_path / 'other.pth')))

    distiller = build_distiller(teacher=teacher, teacher_ckpt=file)

    assert_same_state(state_of(distiller.teacher), state_of(trained))


def test_it_has_to_be_there_and_to_fit(file, tmp_path):
    nowhere = teacher_classifier(init_cfg=pretrained(str(tmp_path / 'trainet.pth')))
    with pytest.raises(MissingFileError, match=r"^teacher\.init_cfg\.checkpoint=.*'trained\.pth'"):
        build_distiller(teacher=nowhere, teacher_ckpt=None)

    thinner = teacher_classifier(init_cfg=pretrained(file))
    thinner['backbone']['base_channels'] = (8, 8, 8, 32)
    with pytest.raises(RunError, match=r'^teacher\.init_cfg\.checkpoint=.*of another shape'):
        build_distiller(teacher=thinner, teacher_ckpt=None)


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.'])
def test_a_teacher_that_is_a_backbone_takes_the_backbones(trained, file, prefix):
    teacher = teacher_classifier(head=None, neck=None)
    teacher['backbone']['init_cfg'] = pretrained(file, prefix=prefix)

    distiller = build_distiller(teacher=teacher, **BACKBONE)

    assert_same_state(state_of(distiller.teacher.backbone), state_of(trained.backbone))


def test_weights_of_the_backbone_alone_are_refused_for_more(file):
    teacher = teacher_classifier()
    teacher['backbone']['init_cfg'] = pretrained(file, prefix='backbone.')
    message = r'teacher\.backbone\.init_cfg\.checkpoint .* backbone alone, none to head\.'

    with pytest.raises(ConfigError, match=message):
        build_distiller(teacher=teacher, **BACKBONE)


def test_a_backbone_that_loads_its_weights_itself():
    backbone = dict(type=FromAfar, pretrained=True)
    teacher = teacher_classifier(backbone=backbone, head=None, neck=None)

    distiller = build_distiller(teacher=teacher, **BACKBONE)

    assert (distiller.teacher.backbone.layer3.weight == 0.25).all()
    with pytest.raises(ConfigError, match=r'^teacher .*teacher\.backbone\.pretrained gives'):
        build_distiller(teacher=teacher_classifier(backbone=backbone), **BACKBONE)


def test_an_untrained_one_loads_none():
    teacher = teacher_classifier(backbone=dict(type=FromAfar, pretrained=True))

    distiller = build_distiller(**{**BACKBONE, 'teacher_ckpt': 'random'}, teacher=teacher)

    assert not (distiller.teacher.backbone.layer3.weight == 0.25).any()
