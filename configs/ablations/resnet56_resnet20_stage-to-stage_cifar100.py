"""One stage of a student learns from one stage of a teacher: ResNet-56 -> ResNet-20, CIFAR-100.

The study that motivates the paper: which stage of the teacher should a stage of the student learn
from? The stages are 1, 2, 3 and 4, which is the pooled feature, and come from the environment:
`STUDENT_STAGE=3 TEACHER_STAGE=1 python tools/train.py CONFIG`. They are compared by HCL after a
1x1 and a 3x3 convolution. No published number is known here.
"""

_base_ = '../reviewkd/resnet56_resnet20_cifar100.py'
student_stage = int('{{$STUDENT_STAGE:4}}')
teacher_stage = int('{{$TEACHER_STAGE:1}}')
review = _base_.model.transfers.review
taps = dict(
    student=review.student[student_stage - 1],
    teacher=review.teacher[teacher_stage - 1],
)
model = dict(transfers=dict(review=dict(review, _delete_=True, **taps)))
work_dir = f'work_dirs/resnet56_resnet20_stage{student_stage}-to-{teacher_stage}_cifar100'
