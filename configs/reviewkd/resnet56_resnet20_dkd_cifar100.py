"""ReviewKD together with decoupled logit distillation (DKD) on CIFAR-100, ResNet-56 -> ResNet-20.

No published number is known; the weights are those of each method alone.
"""

_base_ = ['./resnet56_resnet20_cifar100.py', '../_base_/transfers/dkd_cifar_resnet.py']
dkd = dict(_base_.dkd_cifar_resnet, warmup_epochs=_base_.warmup_epochs)
model = dict(transfers=dict(dkd=dkd))
