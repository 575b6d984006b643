"""ReviewKD on CIFAR-100: what is tapped of each kind of network, shallow to deep.

A student is tapped after the ReLU of its stages, a teacher before it, both at the pooled feature
too. A Wide ResNet has no ReLU there: a student is tapped at its raw stages, a teacher after the
BatchNorm that follows them. MobileNetV2 has none at the end of its blocks.
"""

student_taps = dict(
    resnet=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'neck'],
    wide_resnet=['backbone.block1', 'backbone.block2', 'backbone.block3', 'neck'],
    vgg=['backbone.relu1', 'backbone.relu2', 'backbone.relu3', 'backbone.relu4', 'neck'],
    mobilenet_v2=[
        'backbone.blocks.1',
        'backbone.blocks.2',
        'backbone.blocks.4',
        'backbone.blocks.6',
        'neck',
    ],
    shufflenet=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'neck'],
)
before_relu = [
    dict(type='ModuleInputs', source=f'backbone.layer{stage}.-1.relu') for stage in (1, 2, 3, 4)
]
teacher_taps = dict(
    resnet=[*before_relu[:3], 'neck'],
    resnet50=[*before_relu, 'neck'],
    wide_resnet=[
        'backbone.block2.layer.0.bn1',
        'backbone.block3.layer.0.bn1',
        'backbone.bn1',
        'neck',
    ],
    vgg=['backbone.block1', 'backbone.block2', 'backbone.block3', 'backbone.block4', 'neck'],
)
review_cifar = dict(connector=dict(type='ReviewConnector'), loss=dict(type='HCLLoss'))
