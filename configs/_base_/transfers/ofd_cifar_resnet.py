"""The overhaul of feature distillation between CIFAR ResNets: three stages before their last ReLU,
weight 1e-3.
"""

ofd_taps = [
    dict(type='ModuleInputs', source=f'backbone.layer{stage}.-1.relu') for stage in (1, 2, 3)
]
ofd_cifar_resnet = dict(
    student=ofd_taps,
    teacher=ofd_taps,
    connector=dict(type='ConvRegressor', relu=False),
    loss=dict(type='OFDLoss', loss_weight=1e-3),
)
