"""ReviewKD on ImageNet, ResNet-50 -> MobileNetV1.

The schedule, feature loss weight and taps of the authors' code; MMPretrain's data pipeline, which
resizes with OpenCV where the authors used Pillow, and mixed precision. "Distilling Knowledge via
Knowledge Review" (CVPR 2021) reports 72.56 % top-1. Student alone: 68.87 %, teacher: 76.16 %. The
teacher has torchvision's weights, converted by
tools/model_converters/torchvision_to_mmpretrain.py.
"""

_base_ = ['../baselines/mobilenetv1_imagenet.py', '../_base_/transfers/review_imagenet.py']
default_hooks = _base_.distillation_hooks
connector = dict(type='ReviewConnector', mid_channels=256)
compare = dict(connector=connector, loss=dict(type='HCLLoss', loss_weight=8.0))
model = dict(
    _delete_=True,
    type='reviewkd_mm.Distiller',
    student=_base_.model,
    teacher='reviewkd_mm::baselines/resnet50_imagenet.py',
    teacher_ckpt='checkpoints/resnet50_imagenet.pth',
    transfers=dict(
        review=dict(_base_.review_imagenet, student=_base_.mobilenet_v1_taps, **compare)
    ),
)
