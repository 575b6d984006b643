"""ReviewKD on COCO, Faster R-CNN R50 -> MobileNetV2.

The paper's schedule and feature loss weight. The teacher is MMDetection's 3x multi-scale
checkpoint (40.3 box AP by its metafile), which is downloaded; the detectors and the ImageNet
weights are MMDetection's, not Detectron2's. The paper's result could not be verified from a
source at hand.
"""

_base_ = [
    '../baselines/faster-rcnn_mbv2_coco.py',
    '../_base_/transfers/review_fpn.py',
]
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_fpn, loss=dict(type='HCLLoss', loss_weight=2.0))
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::faster_rcnn/faster-rcnn_r50_fpn_ms-3x_coco.py',
    transfers=dict(review=review),
)
