"""RKD on CIFAR-100, ResNet-56 -> ResNet-20: distances and angles of the pooled feature.

"Relational Knowledge Distillation" (CVPR 2019) with the weights of mdistiller, but the schedule of
the other configs here (batch 128, learning rate 0.1, where mdistiller has 64 and 0.05). No
published number of it is quoted here. Student alone: 69.06 %, teacher: 72.34 %.
"""

_base_ = ['../reviewkd/resnet56_resnet20_cifar100.py', '../_base_/transfers/rkd_cifar_resnet.py']
model = dict(transfers=dict(_delete_=True, rkd=_base_.rkd_cifar_resnet))
