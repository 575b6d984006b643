"""ReviewKD, ResNet-56 -> ResNet-20 on CIFAR-100: loss weight 0.3.

A value of ours beside the authors' 0.6; no published number is known here.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
model = dict(transfers=dict(review=dict(loss=dict(loss_weight=0.3))))
