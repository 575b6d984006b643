"""ReviewKD, ResNet-56 -> ResNet-20 on CIFAR-100: GroupNorm in the connector.

A value of ours beside the authors' BatchNorm; no published number is known here.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
norm = dict(type='GN', num_groups=8)
model = dict(transfers=dict(review=dict(connector=dict(norm_cfg=norm))))
