"""ReviewKD on COCO, RTMDet-l -> RTMDet-s: necks of 256 and of 128 channels.

MMDetection's schedule of 300 epochs, its EMA and its change of pipeline included; the teacher is
its checkpoint (51.3 box AP by its metafile), which is downloaded. Student alone: 44.5. It
reproduces no published number.
"""

_base_ = [
    'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/hooks.py',
]
default_hooks = _base_.distillation_hooks
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py',
    transfers=dict(review=_base_.review_fpn),
)
