"""Decoupled distillation between CIFAR ResNets: temperature 4, alpha 1, beta 2, which is that of
ResNet-56 -> ResNet-20; the x4 networks have beta 8.
"""

dkd_cifar_resnet = dict(
    student='head',
    teacher='head',
    loss=dict(type='DKDLoss', alpha=1.0, beta=2.0, tau=4.0),
)
