"""DKD on CIFAR-100, ResNet-32x4 -> ResNet-8x4: decoupled logit distillation.

"Decoupled Knowledge Distillation" (CVPR 2022) with the weights of mdistiller, but the schedule of
the other configs here (batch 128, learning rate 0.1, where mdistiller has 64 and 0.05). Published
top-1, as LSKD (CVPR 2024) reprints it: 76.32 %. Student alone: 72.50 %, teacher: 79.42 %.
"""

_base_ = [
    '../reviewkd/resnet32x4_resnet8x4_cifar100.py',
    '../_base_/transfers/dkd_cifar_resnet.py',
]
loss = dict(_base_.dkd_cifar_resnet.loss, beta=8.0)
dkd = dict(_base_.dkd_cifar_resnet, loss=loss, warmup_epochs=_base_.warmup_epochs)
model = dict(transfers=dict(_delete_=True, dkd=dkd))
