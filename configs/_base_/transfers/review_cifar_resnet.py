"""ReviewKD between CIFAR ResNets."""

_base_ = './review_cifar.py'
review_cifar_resnet = dict(
    _base_.review_cifar,
    student=_base_.student_taps.resnet,
    teacher=_base_.teacher_taps.resnet,
)
