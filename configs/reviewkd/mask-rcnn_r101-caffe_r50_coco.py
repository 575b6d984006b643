"""ReviewKD on COCO, Mask R-CNN R101 -> R50, of a teacher with other pixels.

The teacher reads BGR of std 1, the student RGB of ImageNet's std; the distiller gives each its
own. MMDetection's 1x schedule; the teacher is its 3x multi-scale checkpoint (42.9 box AP, 38.5
mask AP by its metafile), which is downloaded. Student alone: 38.2, 34.7. It reproduces no
published number.
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
    teacher='mmdet::mask_rcnn/mask-rcnn_r101-caffe_fpn_ms-poly-3x_coco.py',
    transfers=dict(review=_base_.review_fpn),
)
