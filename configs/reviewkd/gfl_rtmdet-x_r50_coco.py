"""ReviewKD on COCO, RTMDet-x -> GFL R50: another detector, backbone and neck of 320 channels.

MMDetection's 1x schedule of GFL; the teacher is its RTMDet-x checkpoint (52.6 box AP by its
metafile), which is downloaded. Student alone: 40.2. It reproduces no published number. Compared
are the levels that both have, P3 to P5.
"""

_base_ = [
    'mmdet::gfl/gfl_r50_fpn_1x_coco.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/hooks.py',
]
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_fpn, student=[f'neck.fpn_convs.{i}' for i in range(3)])
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::rtmdet/rtmdet_x_8xb32-300e_coco.py',
    transfers=dict(review=review),
)
