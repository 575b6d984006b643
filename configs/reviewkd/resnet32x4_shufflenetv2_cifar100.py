"""ReviewKD on CIFAR-100, ResNet-32x4 -> ShuffleNetV2.

The settings of the authors' released code. "Distilling Knowledge via Knowledge Review" (CVPR 2021)
reports 77.78 % top-1, as LSKD (CVPR 2024) reprints it; an independent rerun (MLRC 2021) measured
77.86 %. Student alone: 71.82 %, teacher: 79.42 %. The teacher is kept in eval mode, which the
authors' code did not do.
"""

_base_ = ['../baselines/shufflenetv2_cifar100.py', '../_base_/transfers/review_cifar.py']
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_cifar, loss=dict(type='HCLLoss', loss_weight=8.0))
taps = dict(student=_base_.student_taps.shufflenet, teacher=_base_.teacher_taps.resnet)
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/resnet32x4_cifar100.py',
    teacher_ckpt='checkpoints/resnet32x4_cifar100.pth',
    transfers=dict(review=dict(review, **taps, warmup_epochs=_base_.warmup_epochs)),
)
