"""Contrastive distillation between CIFAR ResNets: the pooled feature, embedded in 128 channels,
against 16,384 of the 50,000 training images, temperature 0.07, momentum 0.5, weight 0.8.
"""

crd_cifar_resnet = dict(
    student='neck',
    teacher='neck',
    loss=dict(
        type='CRDLoss',
        num_samples=50000,
        embed_channels=128,
        num_negatives=16384,
        tau=0.07,
        momentum=0.5,
        loss_weight=0.8,
    ),
)
