"""Distillation from a stronger teacher between CIFAR ResNets: beta and gamma 2, temperature 4."""

dist_cifar_resnet = dict(
    student='head',
    teacher='head',
    loss=dict(type='DISTLoss', beta=2.0, gamma=2.0, tau=4.0),
)
