"""ReviewKD, ResNet-56 -> ResNet-20 on CIFAR-100: SyncBatchNorm in the connector.

A value of ours beside the authors' BatchNorm; no published number is known here. It differs from
BatchNorm with several GPUs alone.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
model = dict(transfers=dict(review=dict(connector=dict(norm_cfg=dict(type='SyncBN')))))
