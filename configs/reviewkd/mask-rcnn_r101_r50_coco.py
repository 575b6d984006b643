"""ReviewKD on COCO, Mask R-CNN R101 -> R50.

The paper's schedule and feature loss weight. The teacher is MMDetection's 3x multi-scale
checkpoint (42.7 box AP, 38.5 mask AP by its metafile), which is downloaded; the detectors and the
ImageNet weights are MMDetection's, not Detectron2's. The paper's result could not be verified
from a source at hand.
"""

_base_ = [
    '../baselines/mask-rcnn_r50_coco.py',
    '../_base_/transfers/review_fpn.py',
]
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_fpn, loss=dict(type='HCLLoss', loss_weight=0.8))
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::mask_rcnn/mask-rcnn_r101_fpn_ms-poly-3x_coco.py',
    transfers=dict(review=review),
)
