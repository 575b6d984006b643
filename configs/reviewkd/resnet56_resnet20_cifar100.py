"""ReviewKD on CIFAR-100, ResNet-56 -> ResNet-20.

The settings of the authors' released code. "Distilling Knowledge via Knowledge Review" (CVPR
2021) reports 71.89 % top-1, as LSKD (CVPR 2024) reprints it; an independent rerun (MLRC 2021)
measured 71.79 % (the rerun at weight 0.7). Student alone: 69.06 %, teacher: 72.34 %. The teacher
is kept in eval mode, which the authors' code did not do.
"""

_base_ = ['../baselines/resnet20_cifar100.py', '../_base_/transfers/review_cifar_resnet.py']
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_cifar_resnet, loss=dict(type='HCLLoss', loss_weight=0.6))
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/resnet56_cifar100.py',
    teacher_ckpt='checkpoints/resnet56_cifar100.pth',
    transfers=dict(review=dict(review, warmup_epochs=_base_.warmup_epochs)),
)
