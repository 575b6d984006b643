"""KD on CIFAR-100, ResNet-56 -> ResNet-20, on the short schedule of 8 epochs.

For machines without a GPU, to compare with other methods on the same schedule. It reproduces no
published number.
"""

_base_ = ['../reviewkd/resnet56_resnet20_cifar100_short.py', '../_base_/transfers/kd.py']
kd = dict(_base_.kd, loss=dict(type='KLDivergence', tau=4.0, loss_weight=0.9))
model = dict(task_loss_weight=0.1, transfers=dict(_delete_=True, kd=kd))
