"""Similarity-preserving distillation between CIFAR ResNets: the last stage after its ReLU, weight
3000.
"""

sp_cifar_resnet = dict(
    student='backbone.layer3',
    teacher='backbone.layer3',
    loss=dict(type='SimilarityLoss', loss_weight=3000.0),
)
