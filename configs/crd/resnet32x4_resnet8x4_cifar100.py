"""CRD on CIFAR-100, ResNet-32x4 -> ResNet-8x4: contrastive distillation of the pooled feature.

"Contrastive Representation Distillation" (ICLR 2020) with the weights of mdistiller, but the
schedule of the other configs here (batch 128, learning rate 0.1, where mdistiller has 64 and
0.05). Published top-1, as LSKD (CVPR 2024) reprints it: 75.51 %. Student alone: 72.50 %, teacher:
79.42 %.
"""

_base_ = [
    '../reviewkd/resnet32x4_resnet8x4_cifar100.py',
    '../_base_/transfers/crd_cifar_resnet.py',
]
model = dict(transfers=dict(_delete_=True, crd=_base_.crd_cifar_resnet))
