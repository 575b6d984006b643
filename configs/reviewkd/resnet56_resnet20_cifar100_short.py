"""ReviewKD on CIFAR-100, ResNet-56 -> ResNet-20, on the short schedule of 8 epochs.

For machines without a GPU, to compare with the student alone on the same schedule. It reproduces
no published number.
"""

_base_ = ['../baselines/resnet20_cifar100_short.py', '../_base_/transfers/review_cifar_resnet.py']
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
