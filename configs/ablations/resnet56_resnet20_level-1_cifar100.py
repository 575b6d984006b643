"""ReviewKD, ResNet-56 -> ResNet-20 on CIFAR-100: HCL at full size and 1x1.

A value of ours beside the authors' 4x4, 2x2 and 1x1; no published number is known here.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
model = dict(transfers=dict(review=dict(loss=dict(levels=(1,)))))
