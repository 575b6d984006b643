"""ReviewKD on nuclei, Mask R-CNN R34 -> R18, from scratch on two CPU cores.

It reproduces no published number; README has what was measured. The features of a teacher from
scratch are large: at the paper's weight of 1.0 the feature loss starts a hundred times the others.
"""

_base_ = [
    '../baselines/mask-rcnn_r18_nuclei.py',
    '../_base_/transfers/review_fpn.py',
]
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_fpn, loss=dict(type='HCLLoss', loss_weight=0.05))
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/mask-rcnn_r34_nuclei.py',
    teacher_ckpt='checkpoints/mask-rcnn_r34_nuclei.pth',
    transfers=dict(review=review),
)
