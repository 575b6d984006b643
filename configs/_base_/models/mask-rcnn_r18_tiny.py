"""A Mask R-CNN R18 for images of about 100 pixels and a few objects in each: three stages and
levels, half the channels, few anchors, proposals, regions and detections. The neck and the heads
have BatchNorm, and all classes share one box regression: so it learns from scratch in minutes.
"""

_base_ = './mask-rcnn_r18_small.py'
norm = dict(type='BN')
few = dict(nms_pre=100, max_per_img=50)
# A cell of a region is hardly larger than one of the feature map.
one_sample = dict(sampling_ratio=1)
extractor = dict(out_channels=64, featmap_strides=[4, 8, 16], roi_layer=one_sample)
model = dict(
    backbone=dict(
        base_channels=32,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
    ),
    neck=dict(in_channels=[32, 64, 128], out_channels=64, num_outs=3, norm_cfg=norm),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(ratios=[1.0], strides=[4, 8, 16]),
    ),
    roi_head=dict(
        bbox_roi_extractor=extractor,
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_convs=1,
            num_shared_fcs=1,
            in_channels=64,
            conv_out_channels=64,
            fc_out_channels=128,
            reg_class_agnostic=True,
            norm_cfg=norm,
        ),
        mask_roi_extractor=extractor,
        mask_head=dict(in_channels=64, conv_out_channels=64, num_convs=2, norm_cfg=norm),
    ),
    train_cfg=dict(rpn_proposal=few, rcnn=dict(sampler=dict(num=16, pos_fraction=0.5))),
    test_cfg=dict(rpn=few, rcnn=dict(max_per_img=10)),
)
