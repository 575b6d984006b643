"""ReviewKD, ResNet-56 -> ResNet-20 on CIFAR-100: 256 channels in the connector.

A value of ours beside the authors' 64, the channels of the deepest student stage; no published
number is known here.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
model = dict(transfers=dict(review=dict(connector=dict(mid_channels=256))))
