"""ReviewKD on COCO, Faster R-CNN R101 -> R50.

The paper's schedule and feature loss weight. The teacher is MMDetection's 3x multi-scale
checkpoint (41.8 box AP by its metafile), which is downloaded; the detectors and the ImageNet
weights are MMDetection's, not Detectron2's. The paper's result is 40.36 box AP, with Detectron2's
student (37.9 alone) and teacher (42.0).
"""

_base_ = [
    '../baselines/faster-rcnn_r50_coco.py',
    '../_base_/transfers/review_fpn.py',
]
default_hooks = _base_.distillation_hooks
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::faster_rcnn/faster-rcnn_r101_fpn_ms-3x_coco.py',
    transfers=dict(review=_base_.review_fpn),
)
