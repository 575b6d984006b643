"""AT on CIFAR-100, ResNet-32x4 -> ResNet-8x4: attention transfer after each stage.

"Paying More Attention to Attention" (ICLR 2017) with the weights of mdistiller, but the schedule
of the other configs here (batch 128, learning rate 0.1, where mdistiller has 64 and 0.05). No
published number of it is quoted here. Student alone: 72.50 %, teacher: 79.42 %.
"""

_base_ = ['../reviewkd/resnet32x4_resnet8x4_cifar100.py', '../_base_/transfers/at_cifar_resnet.py']
model = dict(transfers=dict(_delete_=True, at=_base_.at_cifar_resnet))
