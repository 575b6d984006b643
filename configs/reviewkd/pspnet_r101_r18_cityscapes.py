"""ReviewKD on Cityscapes, PSPNet R101 -> R18: semantic segmentation.

It needs MMSegmentation (requirements/optional.txt). Its schedule of 80,000 iterations; the
teacher is its checkpoint (79.76 mIoU by its metafile), which is downloaded. Student alone: 74.87.
It reproduces no published number. There is no neck: the four stages are compared.
"""

_base_ = [
    'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py',
    '../_base_/transfers/review_fpn.py',
    '../_base_/hooks.py',
]
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_fpn, student='backbone', teacher='backbone')
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py',
    transfers=dict(review=review),
)
