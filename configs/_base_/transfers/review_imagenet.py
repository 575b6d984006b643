"""ReviewKD on ImageNet: four stages and the pooled feature, shallow to deep.

A ResNet is tapped after the ReLU of its stages, as student and as teacher: the authors' code taps
them before it, but its ReLU works in place and overwrites what was tapped. MobileNetV1 is tapped
before the last ReLU of blocks 3, 5, 11 and 13, the stem being block 0.
"""

resnet_taps = ['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'backbone.layer4', 'neck']
mobilenet_v1_taps = [
    dict(type='ModuleInputs', source=f'backbone.model.{block}.5') for block in (3, 5, 11, 13)
] + ['neck']
review_imagenet = dict(
    teacher=resnet_taps,
    connector=dict(type='ReviewConnector'),
    loss=dict(type='HCLLoss', loss_weight=1.0),
)
