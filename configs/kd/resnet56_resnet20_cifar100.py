"""Logit distillation on CIFAR-100, ResNet-56 -> ResNet-20: 0.1 x cross-entropy + 0.9 x KD at
temperature 4.

"Distilling the Knowledge in a Neural Network" (2015) with the weights of mdistiller, but the
schedule of the other configs here (batch 128, learning rate 0.1, where mdistiller has 64 and
0.05). Published top-1, as LSKD (CVPR 2024) reprints it: 70.66 %. Student alone: 69.06 %, teacher:
72.34 %.
"""

_base_ = ['../baselines/resnet20_cifar100.py', '../_base_/transfers/kd.py']
default_hooks = _base_.distillation_hooks
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/resnet56_cifar100.py',
    teacher_ckpt='checkpoints/resnet56_cifar100.pth',
    task_loss_weight=0.1,
    transfers=dict(kd=dict(_base_.kd, loss=dict(type='KLDivergence', tau=4.0, loss_weight=0.9))),
)
