"""ReviewKD on COCO, ATSS R101 -> R50.

MMDetection's 1x schedule; the teacher is its 1x checkpoint (41.5 box AP by its metafile), which
is downloaded. Student alone: 39.4. It reproduces no published number.
"""

_base_ = [
    'mmdet::atss/atss_r50_fpn_1x_coco.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/hooks.py',
]
default_hooks = _base_.distillation_hooks
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::atss/atss_r101_fpn_1x_coco.py',
    transfers=dict(review=_base_.review_fpn),
)
