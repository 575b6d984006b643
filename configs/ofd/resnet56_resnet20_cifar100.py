"""OFD on CIFAR-100, ResNet-56 -> ResNet-20: the overhaul of feature distillation.

"A Comprehensive Overhaul of Feature Distillation" (ICCV 2019) with the weights of mdistiller, but
the schedule of the other configs here (batch 128, learning rate 0.1, where mdistiller has 64 and
0.05). Published top-1, as LSKD (CVPR 2024) reprints it: 70.98 %. Student alone: 69.06 %, teacher:
72.34 %.
"""

_base_ = ['../reviewkd/resnet56_resnet20_cifar100.py', '../_base_/transfers/ofd_cifar_resnet.py']
model = dict(transfers=dict(_delete_=True, ofd=_base_.ofd_cifar_resnet))
