"""ReviewKD on COCO, RetinaNet R101 -> R50, at the paper's feature loss weight of 1.0.

The teacher is MMDetection's 3x multi-scale checkpoint (41.0 box AP), which is downloaded. Unlike
the paper, which trained the student with Detectron2's 1x schedule at shorter sides of 640 to 800
pixels, this is MMDetection's 1x schedule (12 epochs) at 800 pixels; the student alone reaches
36.5 box AP with it, by MMDetection's metafile. No number of the paper is reproduced by it.
"""

_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/distillation_hooks.py',
]
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::retinanet/retinanet_r101_fpn_ms-640-800-3x_coco.py',
    transfers=dict(review=_base_.review_fpn),
)
