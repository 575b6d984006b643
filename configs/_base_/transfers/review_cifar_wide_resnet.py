"""ReviewKD between CIFAR Wide ResNets: the student's three raw block outputs and its pooled
feature against the teacher's blocks after the next BatchNorm, before ReLU, and its pooled feature.
"""

review_cifar_wide_resnet = dict(
    student=['backbone.block1', 'backbone.block2', 'backbone.block3', 'neck'],
    teacher=['backbone.block2.layer.0.bn1', 'backbone.block3.layer.0.bn1', 'backbone.bn1', 'neck'],
    connector=dict(type='ReviewConnector'),
    loss=dict(type='HCLLoss'),
)
