"""ReviewKD on CIFAR-100, WRN-40-2 -> WRN-16-2.

The settings of the authors' released code. "Distilling Knowledge via Knowledge Review" (CVPR
2021) reports 76.12 % top-1, as LSKD (CVPR 2024) reprints it; an independent rerun (MLRC 2021)
measured 76.27 %. Student alone: 73.26 %, teacher: 75.61 %. The teacher is kept in eval mode,
which the authors' code did not do.
"""

_base_ = ['../baselines/wrn16-2_cifar100.py', '../_base_/transfers/review_cifar_wide_resnet.py']
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_cifar_wide_resnet, loss=dict(type='HCLLoss', loss_weight=5.0))
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/wrn40-2_cifar100.py',
    teacher_ckpt='checkpoints/wrn40-2_cifar100.pth',
    transfers=dict(review=dict(review, warmup_epochs=_base_.warmup_epochs)),
)
