"""ReviewKD on generated shapes, Mask R-CNN R18 -> a thin R18: the demo's detectors.

It reproduces no published number; ``make demo`` trains the teacher and both students.
"""

_base_ = [
    '../baselines/mask-rcnn_r18-thin_shapes.py',
    '../_base_/transfers/review_fpn.py',
]
default_hooks = _base_.distillation_hooks
connector = dict(_base_.review_fpn.connector, mid_channels=64)
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/mask-rcnn_r18_shapes.py',
    teacher_ckpt='checkpoints/mask-rcnn_r18_shapes.pth',
    transfers=dict(review=dict(_base_.review_fpn, connector=connector)),
)
