"""ReviewKD on COCO, Panoptic FPN R101 -> R50.

MMDetection's 1x schedule; the teacher is its 3x multi-scale checkpoint (44.1 PQ by its metafile),
which is downloaded. Student alone: 40.2. It reproduces no published number.

Reading and evaluating panoptic data needs the package panopticapi; without it MMDetection's
error before the training says how to get it.
"""

_base_ = [
    'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/hooks.py',
]
default_hooks = _base_.distillation_hooks
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::panoptic_fpn/panoptic-fpn_r101_fpn_ms-3x_coco.py',
    transfers=dict(review=_base_.review_fpn),
)
