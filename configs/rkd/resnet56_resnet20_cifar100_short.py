"""RKD on CIFAR-100, ResNet-56 -> ResNet-20, on the short schedule of 8 epochs.

For machines without a GPU, to compare with other methods on the same schedule. It reproduces no
published number.
"""

_base_ = [
    '../reviewkd/resnet56_resnet20_cifar100_short.py',
    '../_base_/transfers/rkd_cifar_resnet.py',
]
model = dict(transfers=dict(_delete_=True, rkd=_base_.rkd_cifar_resnet))
