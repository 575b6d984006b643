"""ReviewKD on COCO, RetinaNet R101 -> R50.

The paper's schedule and feature loss weight. The teacher is MMDetection's 3x multi-scale
checkpoint (41.0 box AP by its metafile), which is downloaded; the detectors and the ImageNet
weights are MMDetection's, not Detectron2's. The paper's result could not be verified from a
source at hand.
"""

_base_ = [
    '../baselines/retinanet_r50_coco.py',
    '../_base_/transfers/review_fpn.py',
]
default_hooks = _base_.distillation_hooks
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::retinanet/retinanet_r101_fpn_ms-640-800-3x_coco.py',
    transfers=dict(review=_base_.review_fpn),
)
