"""ReviewKD together with decoupled logit distillation (DKD) on CIFAR-100, ResNet-56 -> ResNet-20,
on the short schedule of 8 epochs.

For machines without a GPU, to compare with other methods on the same schedule. It reproduces no
published number.
"""

_base_ = ['./resnet56_resnet20_cifar100_short.py', '../_base_/transfers/dkd_cifar_resnet.py']
dkd = dict(_base_.dkd_cifar_resnet, warmup_epochs=_base_.warmup_epochs)
model = dict(transfers=dict(dkd=dkd))
