"""Test-time augmentation, as the test tools of MMPretrain and MMDetection have it."""

from __future__ import annotations

import copy

from mmengine.config import Config, ConfigDict

from reviewkd_mm.config.parts import innermost_dataset
from reviewkd_mm.errors import ConfigError

# What MMPretrain's and MMDetection's tools take where a config has no tta_model.
MODELS = {
    'mmpretrain': dict(type='AverageClsScoreTTA'),
    'mmdet': dict(
        type='DetTTAModel',
        tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
    ),
}
FLIPS = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
# What DetTTAModel reads of each view.
PACK_DET_INPUTS = dict(
    type='PackDetInputs',
    meta_keys=(
        *('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
        *('flip', 'flip_direction'),
    ),
)


def enable_tta(cfg: Config) -> None:
    """Test on several views of an image, whose predictions are merged.

    ``tta_pipeline`` of the config makes the views and ``tta_model`` merges. For what a config of
    MMPretrain or MMDetection lacks, these are the image and its mirror image, and the mean of the
    scores of the classes or the non-maximum suppression of all boxes.

    Args:
        cfg (Config): The config of an ordinary model, changed in place.

    Raises:
        ValueError: If the config of another package lacks one of the two, or there is no test
            pipeline.
    """
    scope = cfg.get('default_scope')
    for key in ('tta_model', 'tta_pipeline'):
        if key not in cfg and scope not in MODELS:
            raise ConfigError(
                f'--tta: {key} is missing in the config; there is a default for default_scope='
                f"'mmpretrain' and 'mmdet' alone, got {scope!r}"
            )
    dataset = innermost_dataset((cfg.get('test_dataloader') or {}).get('dataset'))
    if not dataset.get('pipeline'):
        raise ConfigError('--tta: test_dataloader.dataset.pipeline is missing in the config')
    merging = cfg.get('tta_model') or MODELS[scope]
    dataset['pipeline'] = cfg.get('tta_pipeline') or _flip(dataset['pipeline'], scope)
    cfg.model = ConfigDict(copy.deepcopy(merging), module=cfg.model)
    # The model has its own; what is given to the merging one would replace it.
    cfg.pop('data_preprocessor', None)


def _flip(pipeline: list[dict], scope: str) -> list[dict]:
    """Return a pipeline that gives an image and its mirror image."""
    *steps, pack = copy.deepcopy(pipeline)
    if scope == 'mmdet':
        pack = PACK_DET_INPUTS
    return [*steps, dict(type='TestTimeAug', transforms=[copy.deepcopy(FLIPS), [pack]])]
