"""DKD on CIFAR-100, ResNet-56 -> ResNet-20: decoupled logit distillation.

"Decoupled Knowledge Distillation" (CVPR 2022) with the weights of mdistiller, but the schedule of
the other configs here (batch 128, learning rate 0.1, where mdistiller has 64 and 0.05). Published
top-1, as LSKD (CVPR 2024) reprints it: 71.97 %. Student alone: 69.06 %, teacher: 72.34 %.
"""

_base_ = ['../reviewkd/resnet56_resnet20_cifar100.py', '../_base_/transfers/dkd_cifar_resnet.py']
dkd = dict(_base_.dkd_cifar_resnet, warmup_epochs=_base_.warmup_epochs)
model = dict(transfers=dict(_delete_=True, dkd=dkd))
