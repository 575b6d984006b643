"""ReviewKD on COCO, Mask R-CNN Swin-S -> R50: a transformer teaches a CNN.

MMDetection's 1x schedule; the teacher is its 3x multi-scale checkpoint (48.2 box AP, 43.2 mask AP
by its metafile), which is downloaded. Student alone: 38.2, 34.7. It reproduces no published
number.
"""

_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/hooks.py',
]
default_hooks = _base_.distillation_hooks
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py',
    transfers=dict(review=_base_.review_fpn),
)
