"""ReviewKD between CIFAR Wide ResNets."""

_base_ = './review_cifar.py'
review_cifar_wide_resnet = dict(
    _base_.review_cifar,
    student=_base_.student_taps.wide_resnet,
    teacher=_base_.teacher_taps.wide_resnet,
)
