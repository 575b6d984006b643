"""CRD on CIFAR-100, ResNet-56 -> ResNet-20, on the short schedule of 8 epochs.

For machines without a GPU, to compare with other methods on the same schedule. It reproduces no
published number.
"""

_base_ = [
    '../reviewkd/resnet56_resnet20_cifar100_short.py',
    '../_base_/transfers/crd_cifar_resnet.py',
]
model = dict(transfers=dict(_delete_=True, crd=_base_.crd_cifar_resnet))
