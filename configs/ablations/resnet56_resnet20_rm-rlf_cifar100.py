"""ReviewKD, ResNet-56 -> ResNet-20 on CIFAR-100: review mechanism and residual framework.

Stages are added up instead of fused by attention, and compared by their mean squared error alone.
The rerun of MLRC 2021 measured 69.92 % with it; with nothing of ReviewKD, which is
configs/baselines/resnet20_cifar100.py here, 69.50 %; with everything, which is
configs/reviewkd/resnet56_resnet20_cifar100.py, 71.79 %.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
model = dict(transfers=dict(review=dict(connector=dict(attention=False), loss=dict(levels=()))))
