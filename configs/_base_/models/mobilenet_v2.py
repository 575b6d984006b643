"""A MobileNetV2 backbone with frozen BatchNorm for an FPN: strides 4, 8, 16 and 32."""

mobilenet_v2 = dict(
    type='MobileNetV2',
    out_indices=(1, 2, 4, 6),
    norm_cfg=dict(type='BN', requires_grad=False),
    norm_eval=True,
    init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2'),
)
