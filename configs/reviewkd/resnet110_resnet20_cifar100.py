"""ReviewKD on CIFAR-100, ResNet-110 -> ResNet-20.

The authors' schedule. They did not release this pair's loss weight: 0.6, that of ResNet-56 ->
ResNet-20, is ours. "Distilling Knowledge via Knowledge Review" (CVPR 2021) reports 71.34 % top-1,
as LSKD (CVPR 2024) reprints it. Student alone: 69.06 %, teacher: 74.31 %. The teacher is kept in
eval mode, which the authors' code did not do.
"""

_base_ = ['../baselines/resnet20_cifar100.py', '../_base_/transfers/review_cifar.py']
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_cifar, loss=dict(type='HCLLoss', loss_weight=0.6))
taps = dict(student=_base_.student_taps.resnet, teacher=_base_.teacher_taps.resnet)
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/resnet110_cifar100.py',
    teacher_ckpt='checkpoints/resnet110_cifar100.pth',
    transfers=dict(review=dict(review, **taps, warmup_epochs=_base_.warmup_epochs)),
)
