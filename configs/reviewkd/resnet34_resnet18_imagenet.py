"""ReviewKD on ImageNet, ResNet-34 -> ResNet-18.

The schedule, feature loss weight and taps of the authors' code; MMPretrain's data pipeline, which
resizes with OpenCV where the authors used Pillow, and mixed precision. "Distilling Knowledge via
Knowledge Review" (CVPR 2021) reports 71.61 % top-1; torchdistill measured 71.64 %. Student alone:
69.75 %, teacher: 73.31 %. The teacher has torchvision's weights, converted by
tools/model_converters/torchvision_to_mmpretrain.py.
"""

_base_ = ['../baselines/resnet18_imagenet.py', '../_base_/transfers/review_imagenet.py']
default_hooks = _base_.distillation_hooks
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/resnet34_imagenet.py',
    teacher_ckpt='checkpoints/resnet34_imagenet.pth',
    transfers=dict(review=dict(_base_.review_imagenet, student=_base_.resnet_taps)),
)
