"""ReviewKD together with logit distillation on CIFAR-100, ResNet-56 -> ResNet-20.

Two transfers in one distiller. No published number is known; the weights are those of ReviewKD
alone and of a KD term at temperature 4 with weight 1.
"""

_base_ = ['./resnet56_resnet20_cifar100.py', '../_base_/transfers/kd.py']
model = dict(transfers=dict(kd=_base_.kd))
