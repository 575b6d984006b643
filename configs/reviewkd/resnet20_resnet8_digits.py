"""ReviewKD on the digits that ship with scikit-learn, ResNet-20 -> a narrow ResNet-8: the demo.

It reproduces no published number; ``make demo`` trains the teacher and both students.
"""

_base_ = ['../baselines/resnet8_digits.py', '../_base_/transfers/review_cifar_resnet.py']
default_hooks = _base_.distillation_hooks
review = dict(_base_.review_cifar_resnet, loss=dict(type='HCLLoss', loss_weight=1.0))
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/resnet20_digits.py',
    teacher_ckpt='checkpoints/resnet20_digits.pth',
    transfers=dict(review=dict(review, warmup_epochs=_base_.warmup_epochs)),
)
