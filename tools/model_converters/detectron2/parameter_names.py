"""What Detectron2 calls the tensors of MMDetection's detectors, and how it orders their rows."""

from __future__ import annotations

import re

from converting import mobilenet_v2_place
from torch import Tensor

BODY = 'backbone.bottom_up.'

# Modules of MMDetection and Detectron2, without the backbones; see also ``neck_modules``.
RPN = {
    'rpn_head.rpn_conv': 'proposal_generator.rpn_head.conv',
    'rpn_head.rpn_cls': 'proposal_generator.rpn_head.objectness_logits',
    'rpn_head.rpn_reg': 'proposal_generator.rpn_head.anchor_deltas',
}
BOX_HEAD = {
    'roi_head.bbox_head.shared_fcs.0': 'roi_heads.box_head.fc1',
    'roi_head.bbox_head.shared_fcs.1': 'roi_heads.box_head.fc2',
    'roi_head.bbox_head.fc_cls': 'roi_heads.box_predictor.cls_score',
    'roi_head.bbox_head.fc_reg': 'roi_heads.box_predictor.bbox_pred',
}
MASK_HEAD = {
    **{
        f'roi_head.mask_head.convs.{i}.conv': f'roi_heads.mask_head.mask_fcn{i + 1}'
        for i in range(4)
    },
    'roi_head.mask_head.upsample': 'roi_heads.mask_head.deconv',
    'roi_head.mask_head.conv_logits': 'roi_heads.mask_head.predictor',
}
RETINA_HEAD = {
    **{
        f'bbox_head.{kind}_convs.{i}.conv': f'head.{subnet}_subnet.{2 * i}'
        for kind, subnet in (('cls', 'cls'), ('reg', 'bbox'))
        for i in range(4)
    },
    'bbox_head.retina_cls': 'head.cls_score',
    'bbox_head.retina_reg': 'head.bbox_pred',
}
HEADS = {
    'retinanet': RETINA_HEAD,
    'faster-rcnn': {**RPN, **BOX_HEAD},
    'mask-rcnn': {**RPN, **BOX_HEAD, **MASK_HEAD},
}


def detectron2_name(name: str, arch: str) -> str:
    """Return Detectron2's name of a tensor of an MMDetection detector.

    Args:
        name (str): Such as ``'neck.lateral_convs.0.conv.weight'``.
        arch (str): A key of ``ARCHS``.

    Returns:
        str: Such as ``'backbone.fpn_lateral2.weight'``.
    """
    module, _, leaf = name.rpartition('.')
    if not module.startswith('backbone.'):
        return f'{({**neck_modules(arch), **HEADS[arch]})[module]}.{leaf}'
    module = module.removeprefix('backbone.')
    # ResNets have no ConvModules.
    is_mobilenet = module.endswith(('.conv', '.bn'))
    inner = _mobilenet_v2_module(module) if is_mobilenet else _resnet_module(module)
    return f'{BODY}{inner}.{leaf}'


def neck_modules(arch: str) -> dict[str, str]:
    """Return Detectron2's modules of the FPN by MMDetection's.

    Args:
        arch (str): A key of ``ARCHS``. RetinaNet's starts at level 3 and makes P6 and P7 of C5.
    """
    is_retinanet = arch == 'retinanet'
    modules = {}
    for i, level in enumerate(range(3 if is_retinanet else 2, 6)):
        modules[f'neck.lateral_convs.{i}.conv'] = f'backbone.fpn_lateral{level}'
        modules[f'neck.fpn_convs.{i}.conv'] = f'backbone.fpn_output{level}'
    if is_retinanet:
        modules['neck.fpn_convs.3.conv'] = 'backbone.top_block.p6'
        modules['neck.fpn_convs.4.conv'] = 'backbone.top_block.p7'
    return modules


def reorder_anchors(tensor: Tensor, num_scales: int, num_ratios: int) -> Tensor:
    """Bring the output channels of a RetinaNet head into MMDetection's order of anchors.

    At each place Detectron2 goes through the sizes and, within a size, through the ratios;
    MMDetection's AnchorGenerator the other way round (its ``scale_major``).

    Args:
        tensor (Tensor): Weight or bias of ``cls_score`` or ``bbox_pred``, (A * K, …) with
            A = num_scales * num_ratios.
        num_scales (int): Sizes of anchors at each place.
        num_ratios (int): Ratios of anchors at each place.

    Returns:
        Tensor: The same rows in the other order, (A * K, …).
    """
    per_anchor = tensor.unflatten(0, (num_scales, num_ratios, -1))
    return per_anchor.transpose(0, 1).flatten(0, 2)


def _mobilenet_v2_module(module: str) -> str:
    """Map 'layer2.0.depthwise_conv.bn' to 'features.2.conv.4', and so on."""
    place, _, part = module.rpartition('.')
    is_norm = int(part == 'bn')
    if place == 'conv1':
        return f'features.0.{is_norm}'
    if place == 'conv2':
        return f'conv.{is_norm}'
    block, _, conv = place.rpartition('.')
    # The first block alone does not expand its channels first.
    convs = ('expand_conv', 'depthwise_conv', 'linear_conv')[block == 'layer1.0' :]
    # Convolution, norm and activation follow each other in one row.
    return f'features.{mobilenet_v2_place(block)}.conv.{3 * convs.index(conv) + is_norm}'


def _resnet_module(module: str) -> str:
    """Map 'layer1.0.bn2' to 'res2.0.conv2.norm', 'bn1' to 'stem.conv1.norm', and so on."""
    module = re.sub(r'^layer(\d)', lambda match: f'res{int(match[1]) + 1}', module)
    module = re.sub(r'\bbn(\d)$', r'conv\1.norm', module)
    module = module.replace('downsample.0', 'shortcut').replace('downsample.1', 'shortcut.norm')
    return module if module.startswith('res') else f'stem.{module}'
