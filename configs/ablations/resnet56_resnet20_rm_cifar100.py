"""ReviewKD, ResNet-56 -> ResNet-20 on CIFAR-100: the review mechanism alone.

Each stage of the student learns from each stage of the teacher that is not deeper, by a connector
and a mean squared error of their own: ten transfers of four stages. The rerun of MLRC 2021
measured 69.53 % with it; with nothing of ReviewKD, which is configs/baselines/resnet20_cifar100.py
here, 69.50 %; with everything, which is configs/reviewkd/resnet56_resnet20_cifar100.py, 71.79 %.
How that rerun summed and weighted the ten terms is not known; here each has the weight of a stage
in ReviewKD.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
review = _base_.model.transfers.review
loss = dict(review.loss, levels=())
pairs = [(i, j) for i in range(4) for j in range(i + 1)]
transfers = {
    f'review_{i + 1}_{j + 1}': dict(
        review, student=review.student[i], teacher=review.teacher[j], loss=loss
    )
    for i, j in pairs
}
model = dict(transfers=dict(_delete_=True, **transfers))
