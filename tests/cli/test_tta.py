"""What ``--tta`` makes of a config."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.config import Config

from reviewkd_mm.cli import enable_tta

PACK = dict(type='PackInputs', meta_keys=('sample_idx',))
RESIZE = dict(type='Resize', scale=8)
MERGE = dict(type='Merge', weight=3)
VIEWS = [dict(type='TestTimeAug', transforms=[[RESIZE], [PACK]])]


def config(scope: str = 'mmpretrain', **kwargs: Any) -> Config:
    dataset = dict(type='CustomDataset', pipeline=[RESIZE, PACK])
    cfg = dict(
        default_scope=scope,
        model=dict(type='ImageClassifier'),
        data_preprocessor=dict(mean=[1.0]),
        test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dataset)),
    )
    return Config({**cfg, **kwargs})


def pipeline_of(cfg: Config) -> list[dict]:
    return cfg.test_dataloader.dataset.dataset.pipeline


def test_a_classifier_averages_the_scores_of_an_image_and_its_mirror_image():
    cfg = config()
    enable_tta(cfg)
    assert cfg.model == dict(type='AverageClsScoreTTA', module=dict(type='ImageClassifier'))
    resize, views = pipeline_of(cfg)
    assert resize == RESIZE
    assert views.type == 'TestTimeAug'
    assert [flip.prob for flip in views.transforms[0]] == [1, 0]
    assert views.transforms[1] == [PACK]
    assert 'data_preprocessor' not in cfg, 'it would replace that of the model'


def test_a_detector_suppresses_all_boxes_but_the_best():
    cfg = config('mmdet')
    enable_tta(cfg)
    assert cfg.model.type == 'DetTTAModel'
    assert cfg.model.tta_cfg.nms == dict(type='nms', iou_threshold=0.5)
    (pack,) = pipeline_of(cfg)[-1].transforms[1]
    assert pack.type == 'PackDetInputs'
    assert {'ori_shape', 'flip', 'flip_direction'} <= set(pack.meta_keys)


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
def test_what_the_config_says_goes_before(scope):
    cfg = config(scope, tta_model=MERGE, tta_pipeline=VIEWS)
    enable_tta(cfg)
    assert cfg.model == dict(MERGE, module=dict(type='ImageClassifier'))
    assert pipeline_of(cfg) == VIEWS


@pytest.mark.parametrize(
    ('given', 'missing'),
    [(dict(), 'tta_model'), (dict(tta_model=MERGE), 'tta_pipeline')],
    ids=['neither', 'no pipeline'],
)
def test_another_package_has_no_default(given, missing):
    with pytest.raises(ValueError, match=f"--tta: {missing} is missing .*got 'mmseg'"):
        enable_tta(config('mmseg', **given))


def test_a_config_without_a_test_pipeline_is_refused():
    with pytest.raises(ValueError, match=r'--tta: test_dataloader\.dataset\.pipeline is missing'):
        enable_tta(config(test_dataloader=None))
