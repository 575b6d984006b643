"""ReviewKD on COCO, DINO Swin-L -> R50: detectors that are transformers.

MMDetection's 12-epoch schedule; the teacher is its 12-epoch checkpoint (57.2 box AP by its
metafile), which is downloaded. Student alone: 49.0. It reproduces no published number. The
teacher has one level more, of stride 4, which nothing is compared with.

On a GPU the student's deformable attention needs MMCV's compiled ops; without them the first
step is an error that says how to get them. On a CPU it runs without.
"""

_base_ = [
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/hooks.py',
]
default_hooks = _base_.distillation_hooks
review = _base_.review_fpn
review.teacher = [*(f'neck.convs.{i}' for i in (1, 2, 3)), 'neck.extra_convs.0']
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmdet::dino/dino-5scale_swin-l_8xb2-12e_coco.py',
    transfers=dict(review=review),
)
