"""FitNet between CIFAR ResNets: a hint at the second stage, after its ReLU, with weight 100.

``levels=()`` leaves of the loss the plain mean squared error.
"""

fitnet_cifar_resnet = dict(
    student='backbone.layer2',
    teacher='backbone.layer2',
    connector=dict(type='ConvRegressor'),
    loss=dict(type='HCLLoss', levels=(), loss_weight=100.0),
)
