"""Attention transfer between CIFAR ResNets: three stages after their ReLU, weight 1000."""

at_cifar_resnet = dict(
    student=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
    teacher=['backbone.layer1', 'backbone.layer2', 'backbone.layer3'],
    loss=dict(type='AttentionTransferLoss', loss_weight=1000.0),
)
