"""ReviewKD on COCO, GFL R101 -> R50: detectors without anchors.

MMDetection's 1x schedule; the teacher is its 2x multi-scale checkpoint (44.7 box AP by its
metafile), which is downloaded. Student alone: 40.2. It reproduces no published number.
"""

_base_ = [
    'mmdet::gfl/gfl_r50_fpn_1x_coco.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/hooks.py',
]
default_hooks = _base_.distillation_hooks
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py',
    transfers=dict(review=_base_.review_fpn),
)
