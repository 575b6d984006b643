"""ReviewKD on BCCD, RetinaNet R34 -> R18, from scratch on two CPU cores.

It reproduces no published number; README has what was measured.
"""

_base_ = [
    '../baselines/retinanet_r18_bccd.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/distillation_hooks.py',
]
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/retinanet_r34_bccd.py',
    teacher_ckpt='checkpoints/retinanet_r34_bccd.pth',
    transfers=dict(review=_base_.review_fpn),
)
