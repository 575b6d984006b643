"""ReviewKD, ResNet-56 -> ResNet-20 on CIFAR-100: without the hierarchy of HCL.

Stages are fused by attention, and compared by their mean squared error alone. The rerun of MLRC
2021 measured 71.28 % with it; with nothing of ReviewKD, which is
configs/baselines/resnet20_cifar100.py here, 69.50 %; with everything, which is
configs/reviewkd/resnet56_resnet20_cifar100.py, 71.79 %.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
model = dict(transfers=dict(review=dict(loss=dict(levels=()))))
