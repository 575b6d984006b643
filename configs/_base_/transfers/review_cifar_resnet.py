"""ReviewKD between CIFAR ResNets: the student's three stages after ReLU and its pooled feature
against the teacher's three stages before the last ReLU and its pooled feature.
"""

review_cifar_resnet = dict(
    student=['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'neck'],
    teacher=[
        dict(type='ModuleInputs', source='backbone.layer1.-1.relu'),
        dict(type='ModuleInputs', source='backbone.layer2.-1.relu'),
        dict(type='ModuleInputs', source='backbone.layer3.-1.relu'),
        'neck',
    ],
    connector=dict(type='ReviewConnector'),
    loss=dict(type='HCLLoss'),
)
