"""ReviewKD on CIFAR-100, VGG-13 -> MobileNetV2.

The authors' schedule. They did not release this pair's loss weight: 8 is ours. "Distilling
Knowledge via Knowledge Review" (CVPR 2021) reports 70.37 % top-1, as LSKD (CVPR 2024) reprints it.
Student alone: 64.60 %, teacher: 74.64 %. The teacher is kept in eval mode, which the authors' code
did not do.
"""

_base_ = ['../baselines/mobilenetv2_cifar100.py', '../_base_/transfers/review_cifar.py']
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_cifar, loss=dict(type='HCLLoss', loss_weight=8.0))
taps = dict(student=_base_.student_taps.mobilenet_v2, teacher=_base_.teacher_taps.vgg)
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/vgg13_cifar100.py',
    teacher_ckpt='checkpoints/vgg13_cifar100.pth',
    transfers=dict(review=dict(review, **taps, warmup_epochs=_base_.warmup_epochs)),
)
