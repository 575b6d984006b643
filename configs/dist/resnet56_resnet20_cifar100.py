"""DIST on CIFAR-100, ResNet-56 -> ResNet-20: logits' correlations with the teacher's.

"Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022) with its weights, as far as known,
and the schedule of the other configs here. No published number of it is quoted here. Student
alone: 69.06 %, teacher: 72.34 %.
"""

_base_ = ['../reviewkd/resnet56_resnet20_cifar100.py', '../_base_/transfers/dist_cifar_resnet.py']
model = dict(transfers=dict(_delete_=True, dist=_base_.dist_cifar_resnet))
