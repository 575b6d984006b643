"""Relational distillation between CIFAR ResNets: the pooled feature, distances with weight 25 and
angles with weight 50.
"""

rkd_cifar_resnet = dict(
    student='neck',
    teacher='neck',
    loss=dict(type='RKDLoss', distance_weight=25.0, angle_weight=50.0),
)
