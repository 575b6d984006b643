"""ReviewKD, ResNet-56 -> ResNet-20 on CIFAR-100: loss weight 0.7.

The weight with which the rerun of MLRC 2021 measured 71.79 %; the authors released 0.6.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
model = dict(transfers=dict(review=dict(loss=dict(loss_weight=0.7))))
