"""ReviewKD on ImageNet, ResNet-34 -> ResNet-18, both as MMPretrain has them.

It serves the benchmark and reproduces no published number: the paper's teacher has torchvision's
weights.
"""

_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
stages = ['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4', 'neck']
review = dict(connector=dict(type='ReviewConnector'), loss=dict(type='HCLLoss', loss_weight=1.0))
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='mmpretrain::resnet/resnet34_8xb32_in1k.py',
    transfers=dict(review=dict(review, student=stages, teacher=stages)),
)
