"""The converter of Detectron2's detectors, against Detectron2's networks written out by hand."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from mmdet.models import ResNet
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from reviewkd_mm.models.distillers.model_source import read_source
from tests.numbers import assert_close64

ROOT = Path(__file__).parents[2]
R18, R50 = (2, 2, 2, 2), (3, 4, 6, 3)
WIDTH, LEVEL, CLASSES = 8, 16, 5  # Channels of the stem and of the FPN's levels.
MSRA = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
RATIOS = (0.5, 1.0, 2.0)


def load_tool() -> ModuleType:
    path = ROOT / 'tools' / 'model_converters' / 'detectron2' / 'to_mmdet.py'
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


# Detectron2's networks: their tensors, then what they compute.


def layer(name: str, *shape: int, bias: bool = True) -> dict[str, Tensor]:
    weight = torch.randn(shape) * (2 / max(1, torch.Size(shape[1:]).numel())) ** 0.5
    return {f'{name}.weight': weight, **({f'{name}.bias': torch.randn(shape[0])} if bias else {})}


def norm(name: str, channels: int) -> dict[str, Tensor]:
    """A frozen BatchNorm: no count of batches."""
    return {
        f'{name}.weight': torch.rand(channels) + 0.5,
        f'{name}.bias': torch.randn(channels) * 0.1,
        f'{name}.running_mean': torch.randn(channels) * 0.1,
        f'{name}.running_var': torch.rand(channels) + 0.5,
    }


def conv_norm(name: str, out: int, inp: int, size: int) -> dict[str, Tensor]:
    return {**layer(name, out, inp, size, size, bias=False), **norm(f'{name}.norm', out)}


def resnet_tensors(blocks: Iterable[int]) -> dict[str, Tensor]:
    bottleneck = blocks == R50
    body = 'backbone.bottom_up.'
    w = conv_norm(f'{body}stem.conv1', WIDTH, 3, 7)
    inp = WIDTH
    for stage, count in enumerate(blocks):
        mid = WIDTH * 2**stage
        out = mid * (4 if bottleneck else 1)
        for block in range(count):
            name = f'{body}res{stage + 2}.{block}'
            if bottleneck:
                w |= conv_norm(f'{name}.conv1', mid, inp, 1)
                w |= conv_norm(f'{name}.conv2', mid, mid, 3)
                w |= conv_norm(f'{name}.conv3', out, mid, 1)
            else:
                w |= conv_norm(f'{name}.conv1', mid, inp, 3)
                w |= conv_norm(f'{name}.conv2', out, mid, 3)
            if inp != out:
                w |= conv_norm(f'{name}.shortcut', out, inp, 1)
            inp = out
    return w


def fpn_tensors(channels: list[int], first: int) -> dict[str, Tensor]:
    w = {}
    for level, inp in enumerate(channels, start=2):
        if level >= first:
            w |= layer(f'backbone.fpn_lateral{level}', LEVEL, inp, 1, 1)
            w |= layer(f'backbone.fpn_output{level}', LEVEL, LEVEL, 3, 3)
    return w


def retinanet_tensors() -> dict[str, Tensor]:
    w = resnet_tensors(R50) | fpn_tensors([32, 64, 128, 256], first=3)
    w |= layer('backbone.top_block.p6', LEVEL, 256, 3, 3)
    w |= layer('backbone.top_block.p7', LEVEL, LEVEL, 3, 3)
    for i in (0, 2, 4, 6):
        w |= layer(f'head.cls_subnet.{i}', LEVEL, LEVEL, 3, 3)
        w |= layer(f'head.bbox_subnet.{i}', LEVEL, LEVEL, 3, 3)
    w |= layer('head.cls_score', 9 * CLASSES, LEVEL, 3, 3)
    return w | layer('head.bbox_pred', 9 * 4, LEVEL, 3, 3)


def rcnn_heads(mask: bool) -> dict[str, Tensor]:
    w = layer('proposal_generator.rpn_head.conv', LEVEL, LEVEL, 3, 3)
    w |= layer('proposal_generator.rpn_head.objectness_logits', 3, LEVEL, 1, 1)
    w |= layer('proposal_generator.rpn_head.anchor_deltas', 12, LEVEL, 1, 1)
    w |= layer('roi_heads.box_head.fc1', 24, LEVEL * 49)
    w |= layer('roi_heads.box_head.fc2', 24, 24)
    w |= layer('roi_heads.box_predictor.cls_score', CLASSES + 1, 24)
    w |= layer('roi_heads.box_predictor.bbox_pred', CLASSES * 4, 24)
    if not mask:
        return w
    for i in range(1, 5):
        inp = LEVEL if i == 1 else 12
        w |= layer(f'roi_heads.mask_head.mask_fcn{i}', 12, inp, 3, 3)
    w['roi_heads.mask_head.deconv.weight'] = torch.randn(12, 12, 2, 2)
    w['roi_heads.mask_head.deconv.bias'] = torch.randn(12)
    return w | layer('roi_heads.mask_head.predictor', CLASSES, 12, 1, 1)


def rcnn_tensors(mask: bool = False) -> dict[str, Tensor]:
    return resnet_tensors(R50) | fpn_tensors([32, 64, 128, 256], first=2) | rcnn_heads(mask)


def conv(x: Tensor, w: dict[str, Tensor], name: str, stride: int = 1, groups: int = 1) -> Tensor:
    weight = w[f'{name}.weight']
    padding = weight.shape[-1] // 2
    return F.conv2d(x, weight, w.get(f'{name}.bias'), stride, padding, groups=groups)


def batch_norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    keys = ('running_mean', 'running_var', 'weight', 'bias')
    return F.batch_norm(x, *(w[f'{name}.{key}'] for key in keys), eps=1e-5)


def conv_bn(x: Tensor, w: dict[str, Tensor], name: str, stride: int = 1) -> Tensor:
    return batch_norm(conv(x, w, name, stride), w, f'{name}.norm')


def resnet(x: Tensor, w: dict[str, Tensor], blocks: Iterable[int]) -> list[Tensor]:
    body = 'backbone.bottom_up.'
    x = F.max_pool2d(conv_bn(x, w, f'{body}stem.conv1', 2).relu(), 3, 2, 1)
    features = []
    for stage, count in enumerate(blocks, start=2):
        for block in range(count):
            name = f'{body}res{stage}.{block}'
            stride = 2 if block == 0 and stage > 2 else 1
            # The first convolution has the stride: 1x1 in a bottleneck of MSRA's.
            y = conv_bn(x, w, f'{name}.conv1', stride).relu()
            y = conv_bn(y, w, f'{name}.conv2')
            if blocks == R50:
                y = conv_bn(y.relu(), w, f'{name}.conv3')
            if f'{name}.shortcut.weight' in w:
                x = conv_bn(x, w, f'{name}.shortcut', stride)
            x = (x + y).relu()
        features.append(x)
    return features


def fpn(features: list[Tensor], w: dict[str, Tensor], first: int) -> list[Tensor]:
    above, outputs = None, []
    for level in range(5, first - 1, -1):
        x = conv(features[level - 2], w, f'backbone.fpn_lateral{level}')
        if above is not None:
            x = x + above.repeat_interleave(2, 2).repeat_interleave(2, 3)
        above = x
        outputs.insert(0, conv(x, w, f'backbone.fpn_output{level}'))
    if first == 2:
        return [*outputs, outputs[-1][:, :, ::2, ::2]]
    p6 = conv(features[-1], w, 'backbone.top_block.p6', 2)
    return [*outputs, p6, conv(p6.relu(), w, 'backbone.top_block.p7', 2)]


def cell_anchors(sizes: Iterable[float]) -> Tensor:
    """Detectron2's anchors at a place: the ratios of the first size, then of the second, ..."""
    boxes = []
    for size in sizes:
        for ratio in RATIOS:
            width = (size**2 / ratio) ** 0.5
            height = ratio * width
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(boxes)


def grid_anchors(cells: Tensor, height: int, width: int, stride: int) -> Tensor:
    """(H * W, A, 4)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    shifts = torch.stack((x, y, x, y), -1).view(-1, 1, 4) * stride
    return shifts + cells


def apply_deltas(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Detectron2's box regression of weights 1."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + sizes / 2 + deltas[..., :2] * sizes
    sizes = sizes * deltas[..., 2:].exp()
    return torch.cat((centres - sizes / 2, centres + sizes / 2), -1)


def per_place(x: Tensor, anchors: int) -> Tensor:
    """(1, A * K, H, W) -> (H * W, A, K)."""
    return x[0].unflatten(0, (anchors, -1)).flatten(2).permute(2, 0, 1)


# Helpers of the tests.


def double(w: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in w.items()}


def save(obj: object, path: Path) -> str:
    torch.save(obj, path)
    return str(path)


def build(dst: Path) -> nn.Module:
    """The detector of the config that comes with a checkpoint, with its weights, strictly."""
    config = dst.with_suffix('.py')
    config.write_text(torch.load(dst, weights_only=True)['meta']['config'])
    model = read_source('student', config).build()
    load_checkpoint(model, str(dst), map_location='cpu', strict=True)
    return model.double().eval()


def converted(tmp_path: Path, w: dict[str, Tensor], arch: str) -> nn.Module:
    dst = tmp_path / 'dst.pth'
    src = save({'model': w, 'iteration': 3}, tmp_path / 'src.pth')
    assert tool.main([src, '--student', str(dst), '--arch', arch]) == 0
    return build(dst)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_retinanet_computes_what_detectron2_does(tmp_path):
    weights = retinanet_tensors()
    model = converted(tmp_path, weights, 'retinanet')
    w = double(weights)
    image = torch.randn(1, 3, 128, 96, dtype=torch.float64)
    levels = fpn(resnet(image, w, R50), w, first=3)
    with torch.no_grad():
        features = model.extract_feat(image)
        logits, deltas = model.bbox_head(levels)
    for actual, expected in zip(features, levels, strict=True):
        assert_close64(actual, expected)

    sizes = [tuple(level.shape[-2:]) for level in levels]
    generator, coder = model.bbox_head.prior_generator, model.bbox_head.bbox_coder
    priors = generator.grid_priors(sizes, dtype=torch.float64, device='cpu')
    for i, (level, (height, width)) in enumerate(zip(levels, sizes, strict=True)):
        a = b = level
        for k in (0, 2, 4, 6):
            a = conv(a, w, f'head.cls_subnet.{k}').relu()
            b = conv(b, w, f'head.bbox_subnet.{k}').relu()
        expected_logits = per_place(conv(a, w, 'head.cls_score'), 9)
        # Small enough that no decoder's limit on the size of a box matters.
        expected_deltas = per_place(conv(b, w, 'head.bbox_pred'), 9)
        shrink = 1 / expected_deltas.abs().max()
        cells = cell_anchors(32 * 2**i * 2 ** (k / 3) for k in range(3)).double()
        anchors = grid_anchors(cells, height, width, 8 * 2**i)
        boxes = apply_deltas(anchors, expected_deltas * shrink)

        ours = priors[i].view(-1, 9, 4)
        distance, match = torch.cdist(anchors, ours).min(2)
        assert distance.max() < 1e-2
        assert all(sorted(place) == list(range(9)) for place in match.tolist())
        assert match[0].tolist() != list(range(9))  # The orders differ.

        def same_order(x: Tensor, match: Tensor = match) -> Tensor:
            return x.gather(1, match[..., None].expand(-1, -1, x.shape[-1]))

        assert_close64(same_order(per_place(logits[i], 9)), expected_logits)
        our_deltas = per_place(deltas[i], 9)
        assert_close64(same_order(our_deltas), expected_deltas)
        decoded = coder.decode(ours.reshape(-1, 4), (our_deltas * shrink).reshape(-1, 4))
        torch.testing.assert_close(same_order(decoded.view(-1, 9, 4)), boxes, rtol=1e-4, atol=1e-2)


def test_mask_rcnn_computes_what_detectron2_does(tmp_path):
    weights = rcnn_tensors(mask=True)
    model = converted(tmp_path, weights, 'mask-rcnn')
    w = double(weights)
    image = torch.randn(1, 3, 96, 128, dtype=torch.float64)
    levels = fpn(resnet(image, w, R50), w, first=2)
    rois = torch.randn(2, LEVEL, 7, 7, dtype=torch.float64)
    mask_rois = torch.randn(2, LEVEL, 14, 14, dtype=torch.float64)
    with torch.no_grad():
        features = model.extract_feat(image)
        scores, deltas = model.rpn_head(levels)
        classes, boxes = model.roi_head.bbox_head(rois)
        masks = model.roi_head.mask_head(mask_rois)
    for actual, expected in zip(features, levels, strict=True):
        assert_close64(actual, expected)

    rpn = 'proposal_generator.rpn_head.'
    sizes = [tuple(level.shape[-2:]) for level in levels]
    priors = model.rpn_head.prior_generator.grid_priors(sizes, dtype=torch.float64, device='cpu')
    for i, level in enumerate(levels):
        hidden = conv(level, w, f'{rpn}conv').relu()
        assert_close64(scores[i], conv(hidden, w, f'{rpn}objectness_logits'))
        assert_close64(deltas[i], conv(hidden, w, f'{rpn}anchor_deltas'))
        anchors = grid_anchors(cell_anchors([32 * 2**i]).double(), *sizes[i], 4 * 2**i)
        torch.testing.assert_close(priors[i], anchors.view(-1, 4), rtol=0, atol=1e-2)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f'roi_heads.{name}.weight'], w[f'roi_heads.{name}.bias'])

    hidden = linear(linear(rois.flatten(1), 'box_head.fc1').relu(), 'box_head.fc2').relu()
    assert_close64(classes, linear(hidden, 'box_predictor.cls_score'))
    assert_close64(boxes, linear(hidden, 'box_predictor.bbox_pred'))
    x = mask_rois
    for i in range(1, 5):
        x = conv(x, w, f'roi_heads.mask_head.mask_fcn{i}').relu()
    deconv = (w[f'roi_heads.mask_head.deconv.{key}'] for key in ('weight', 'bias'))
    x = F.conv_transpose2d(x, *deconv, stride=2).relu()
    assert_close64(masks, conv(x, w, 'roi_heads.mask_head.predictor'))


MOBILENET_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip


def mobilenet_v2_blocks() -> list[tuple[str, int, int, int, int]]:
    """Name, channels in, in the middle and out, and stride of each block."""
    inp, place, blocks = 32, 1, []
    for factor, out, count, first_stride in MOBILENET_V2:
        for i in range(count):
            name = f'backbone.bottom_up.features.{place}.conv'
            blocks.append((name, inp, inp * factor, out, first_stride if i == 0 else 1))
            inp, place = out, place + 1
    return blocks


def mobilenet_v2_tensors() -> dict[str, Tensor]:
    """The authors' MobileNetV2, whose BatchNorms are trained and so count batches."""
    stem = 'backbone.bottom_up.features.0'
    w = layer(f'{stem}.0', 32, 3, 3, 3, bias=False) | norm(f'{stem}.1', 32)
    for name, inp, mid, out, _ in mobilenet_v2_blocks():
        convs = [(mid, inp, 1), (mid, 1, 3), (out, mid, 1)]
        for i, (rows, columns, size) in enumerate(convs[inp == mid :]):
            w |= layer(f'{name}.{3 * i}', rows, columns, size, size, bias=False)
            w |= norm(f'{name}.{3 * i + 1}', rows)
    return w | {
        n.replace('running_var', 'num_batches_tracked'): torch.tensor(7)
        for n in w
        if n.endswith('running_var')
    }


def mobilenet_v2(x: Tensor, w: dict[str, Tensor]) -> list[Tensor]:
    stem, features = 'backbone.bottom_up.features.0', {}
    x = batch_norm(conv(x, w, f'{stem}.0', 2), w, f'{stem}.1').clamp(0, 6)
    for name, inp, mid, out, stride in mobilenet_v2_blocks():
        y, i = x, 0
        if inp != mid:
            y, i = batch_norm(conv(y, w, f'{name}.0'), w, f'{name}.1').clamp(0, 6), 3
        y = conv(y, w, f'{name}.{i}', stride, groups=mid)
        y = batch_norm(y, w, f'{name}.{i + 1}').clamp(0, 6)
        y = batch_norm(conv(y, w, f'{name}.{i + 3}'), w, f'{name}.{i + 4}')
        x = x + y if stride == 1 and inp == out else y
        features[out] = x
    return [features[channels] for channels in (24, 32, 96, 320)]


def test_the_authors_mobilenet_v2(tmp_path, capsys):
    weights = mobilenet_v2_tensors() | fpn_tensors([24, 32, 96, 320], first=2) | rcnn_heads(False)
    model = converted(tmp_path, weights, 'faster-rcnn')
    w = double(weights)
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        features = model.extract_feat(image)
    for actual, expected in zip(features, fpn(mobilenet_v2(image, w), w, 2), strict=True):
        assert_close64(actual, expected)
    assert 'set 6 missing tensors to 0: backbone.conv2' in capsys.readouterr().out


def release(teacher: dict[str, Tensor], student: dict[str, Tensor]) -> dict[str, Tensor]:
    """A file of the authors."""
    return {
        **{f'teacher.{name}': tensor for name, tensor in teacher.items()},
        **student,
        'kd_trans.abfs.0.conv1.0.weight': torch.ones(2, 2, 1, 1),
        'kd_trans.abfs.0.conv1.1.bias': torch.ones(2),
        'pixel_mean': torch.ones(3, 1, 1),
        'pixel_std': torch.ones(3, 1, 1),
        'teacher_pixel_mean': torch.tensor([1.0, 2.0, 3.5]).view(3, 1, 1),
        'teacher_pixel_std': torch.tensor([4.0, 5.0, 6.0]).view(3, 1, 1),
    }


def test_teacher_and_student_of_a_release_file(tmp_path, capsys):
    torch.manual_seed(1)
    teacher, student = rcnn_tensors(), resnet_tensors(R18)
    arrays = {name: tensor.numpy() for name, tensor in release(teacher, student).items()}
    src = save({'model': arrays}, tmp_path / 'src.pth')
    paths = {role: tmp_path / f'{role}.pth' for role in ('teacher', 'student')}
    arguments = [src, '--arch', 'Faster_RCNN']
    for role, dst in paths.items():
        arguments += [f'--{role}', str(dst)]
    assert tool.main(arguments) == 0
    output = capsys.readouterr().out
    assert 'left out: connectors (2 tensors), pixel statistics (4 tensors)\n' in output
    assert f'ResNet-50 detector\nmapped {len(teacher)} tensors' in output
    assert f'ResNet-18 backbone alone\nmapped {len(student)} tensors' in output

    assert 'mean and std are what the file states' in output
    # The teacher's pixels are the file's.
    model = build(paths['teacher'])
    assert model.data_preprocessor.mean.flatten().tolist() == [1.0, 2.0, 3.5]
    assert model.data_preprocessor.std.flatten().tolist() == [4.0, 5.0, 6.0]
    assert model.backbone.style == 'caffe'
    weight = teacher['proposal_generator.rpn_head.conv.weight'].double()
    assert torch.equal(model.rpn_head.rpn_conv.weight, weight)

    # The student's are those of torchvision, and its config starts from its backbone.
    config = tmp_path / 'config.py'
    config.write_text(torch.load(paths['student'], weights_only=True)['meta']['config'])
    model = read_source('student', config).build()
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx(
        [123.675, 116.28, 103.53]
    )
    assert model.data_preprocessor._channel_conversion
    model.init_weights()
    model.double().eval()
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        features = model.backbone(image)
    for actual, expected in zip(features, resnet(image, double(student), R18), strict=True):
        assert_close64(actual, expected)


def test_a_backbone_initialises_mmdetections(tmp_path, capsys):
    student = resnet_tensors(R50)
    classifier = layer('backbone.bottom_up.stem.fc', 10, 8)
    src, dst = save({'model': student | classifier}, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    assert tool.main([src, '--student', str(dst), '--arch', 'retinanet']) == 0
    assert 'left out: ImageNet classifier (2 tensors)' in capsys.readouterr().out
    pretrained = dict(type='Pretrained', checkpoint=str(dst))
    backbone = ResNet(50, base_channels=WIDTH, style='caffe', init_cfg=pretrained)
    backbone.init_weights()
    state_dict = torch.load(dst, weights_only=True)['state_dict']
    assert state_dict.keys() == backbone.state_dict().keys()
    assert all(torch.equal(state_dict[n], t) for n, t in backbone.state_dict().items())
    downsample = student['backbone.bottom_up.res3.0.shortcut.norm.running_var']
    assert torch.equal(backbone.layer2[0].downsample[1].running_var, downsample)
    assert backbone.bn1.num_batches_tracked == 0


def test_the_running_statistics_that_caffe2_lacks(tmp_path, capsys):
    """Detectron2 takes them as 0 and 1, in all BatchNorms or in none."""
    student = resnet_tensors(R18)
    affine = {n: t for n, t in student.items() if '.running_' not in n}
    src, dst = save({'model': affine}, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    arguments = ['--student', str(dst), '--arch', 'retinanet']
    assert tool.main([src, *arguments]) == 0
    norms = len(student) - len(affine)
    assert f'running_mean of {norms // 2} BatchNorms to 0' in capsys.readouterr().out
    state_dict = torch.load(dst, weights_only=True)['state_dict']
    assert torch.equal(state_dict['layer1.0.bn1.running_mean'], torch.zeros(WIDTH))
    assert torch.equal(state_dict['layer1.0.bn1.running_var'], torch.ones(WIDTH))
    del student['backbone.bottom_up.res2.0.conv1.norm.running_var']
    src = save({'model': student}, tmp_path / 'other.pth')
    assert tool.main([src, *arguments, '--force']) == 1
    error = capsys.readouterr().err
    assert 'missing: backbone.bottom_up.res2.0.conv1.norm.running_var' in error


def test_the_config_says_what_the_weights_need(tmp_path, capsys):
    src = save({'model': retinanet_tensors()}, tmp_path / 'src.pth')
    dst = tmp_path / 'dst.pth'
    assert tool.main([src, '--student', str(dst), '--arch', 'retinanet']) == 0
    text = torch.load(dst, weights_only=True)['meta']['config']
    assert text in capsys.readouterr().out
    for fact in ("style='caffe'", 'relu_before_extra_convs=True', 'bgr_to_rgb=False', '103.53'):
        assert fact in text
    config = tmp_path / 'config.py'
    config.write_text(text)
    model = Config.fromfile(config).model
    assert {key: model.data_preprocessor[key] for key in MSRA} == MSRA
    assert model.neck.add_extra_convs == 'on_input'
    assert model.bbox_head.num_classes == CLASSES


def test_anchors_of_older_files_are_left_out(tmp_path, capsys):
    weights = rcnn_tensors()
    for i in range(5):
        name = f'proposal_generator.anchor_generator.cell_anchors.{i}'
        weights[name] = cell_anchors([32 * 2**i])
    converted(tmp_path, weights, 'faster-rcnn')
    assert 'left out: anchors (5 tensors)' in capsys.readouterr().out


def fails(capsys: pytest.CaptureFixture, arguments: list[str]) -> list[str]:
    assert tool.main(arguments) == 1
    return capsys.readouterr().err.splitlines()


def test_every_tensor_that_does_not_fit_is_named(tmp_path, capsys):
    teacher = rcnn_tensors()
    del teacher['backbone.fpn_lateral3.bias']
    teacher['roi_heads.box_head.fc3.weight'] = torch.ones(2, 2)
    teacher['roi_heads.box_head.fc2.bias'] = torch.ones(3)
    src = save({'model': release(teacher, resnet_tensors(R18))}, tmp_path / 'src.pth')
    teacher_dst, student_dst = str(tmp_path / 'teacher.pth'), str(tmp_path / 'student.pth')
    arguments = [src, '--teacher', teacher_dst, '--student', student_dst, '--arch', 'faster-rcnn']
    assert sorted(fails(capsys, arguments)) == [
        'error: missing: teacher.backbone.fpn_lateral3.bias is not in the file',
        'error: shape mismatch: teacher.roi_heads.box_head.fc2.bias is (3,), '
        'the network expects (24,)',
        'error: unexpected: teacher.roi_heads.box_head.fc3.weight has no place in the network',
    ]
    assert os.listdir(tmp_path) == ['src.pth']


def test_unmapped_tensors_may_be_allowed_by_name(tmp_path, capsys):
    weights = rcnn_tensors() | {
        'roi_heads.extra.weight': torch.ones(2, 2),
        'other.bias': torch.ones(2),
    }
    src, dst = save({'model': weights}, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    arguments = [src, '--student', str(dst), '--arch', 'faster-rcnn', '--allow-unmapped']
    # A pattern never leaves out what has a place.
    patterns = ['roi_heads.*', 'backbone.*']
    assert fails(capsys, [*arguments, *patterns]) == [
        'error: unexpected: other.bias has no place in the network'
    ]
    assert tool.main([*arguments, *patterns, 'other.bias']) == 0
    assert 'left out as allowed: roi_heads.extra.weight, other.bias' in capsys.readouterr().out
    build(dst)


def test_a_backbone_with_a_stray_tensor_is_no_detector(tmp_path, capsys):
    weights = resnet_tensors(R18) | {'other.bias': torch.ones(2)}
    src, dst = save({'model': weights}, tmp_path / 'src.pth'), tmp_path / 'dst.pth'
    arguments = [src, '--student', str(dst), '--arch', 'faster-rcnn']
    assert fails(capsys, arguments) == [
        'error: unexpected: other.bias has no place in the network'
    ]


def test_another_architecture_is_suggested(tmp_path, capsys):
    src = save({'model': rcnn_tensors(mask=True)}, tmp_path / 'src.pth')
    arguments = [src, '--student', str(tmp_path / 'dst.pth'), '--arch']
    lines = fails(capsys, [*arguments, 'faster-rcnn'])
    name = 'roi_heads.mask_head.predictor.bias'
    assert f'error: unexpected: {name} has no place in the network' in lines
    assert lines[-1] == 'error: the names are those of --arch mask-rcnn'
    assert fails(capsys, [*arguments, 'retina'])[0].startswith(
        "error: --arch retina: unknown, did you mean 'retinanet'"
    )


@pytest.mark.parametrize(
    ('weights', 'role', 'message'),
    [
        (resnet_tensors(R18), 'teacher', r"no tensors under 'teacher\.backbone\.bottom_up\.'"),
        (resnet_tensors((2, 3, 4, 1)), 'student', r'have \(2, 3, 4, 1\) basic blocks, expected'),
        ({'conv1.weight': torch.ones(2, 2)}, 'student', r"no tensors under 'backbone\.bottom_up"),
    ],
)
def test_files_without_a_backbone_that_is_known(tmp_path, capsys, weights, role, message):
    src = save({'model': weights}, tmp_path / 'src.pth')
    arguments = [src, f'--{role}', str(tmp_path / 'dst.pth'), '--arch', 'faster-rcnn']
    (line,) = fails(capsys, arguments)
    assert re.search(message, line)


class RunsCode:
    """An object whose unpickling makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_code_in_the_file_is_not_run(tmp_path, capsys):
    content = {'model': resnet_tensors(R18), 'opt': RunsCode(tmp_path / 'trace')}
    src = save(content, tmp_path / 'src.pth')
    (line,) = fails(capsys, [src, '--student', str(tmp_path / 'dst.pth'), '--arch', 'retinanet'])
    assert 'refused, since reading it could run code' in line
    assert os.listdir(tmp_path) == ['src.pth']


def test_arrays_of_objects_are_not_read(tmp_path, capsys):
    objects = torch.ones(1).numpy().astype(object)
    src = save({'model': {'a': objects}}, tmp_path / 'src.pth')
    assert tool.main([src, '--student', str(tmp_path / 'd.pth'), '--arch', 'retinanet']) == 1
    assert os.listdir(tmp_path) == ['src.pth']


def test_a_pickle_of_detectron2s_zoo(tmp_path, capsys):
    src = tmp_path / 'model_final.pkl'
    arrays = {name: tensor.numpy() for name, tensor in resnet_tensors(R18).items()}
    src.write_bytes(pickle.dumps({'model': arrays, '__author__': 'Detectron2'}))
    lines = fails(
        capsys, [str(src), '--student', str(tmp_path / 'dst.pth'), '--arch', 'retinanet']
    )
    assert 'plain pickles, which can run code' in lines[-1]
    assert os.listdir(tmp_path) == ['model_final.pkl']


def test_existing_files_are_kept_unless_forced(tmp_path, capsys):
    content = release(rcnn_tensors(), resnet_tensors(R18))
    src = save({'model': content}, tmp_path / 'src.pth')
    teacher, student = tmp_path / 'teacher.pth', tmp_path / 'student.pth'
    student.write_text('precious')
    arguments = [src, '--teacher', str(teacher), '--student', str(student)]
    arguments += ['--arch', 'faster-rcnn']
    (line,) = fails(capsys, arguments)
    assert line == f'error: {student}: exists already, --force overwrites it'
    assert student.read_text() == 'precious'
    assert not teacher.exists()
    assert tool.main([*arguments, '--force']) == 0
    assert 'state_dict' in torch.load(student, weights_only=True)


def test_where_to_write(tmp_path, capsys):
    src, dst = save({'model': resnet_tensors(R18)}, tmp_path / 'src.pth'), str(tmp_path / 'd.pth')
    (line,) = fails(capsys, [src, '--arch', 'retinanet'])
    assert line == 'error: nothing to write: give --teacher, --student or both'
    (line,) = fails(capsys, [src, '--teacher', dst, '--student', dst, '--arch', 'retinanet'])
    assert line == f'error: {dst}: is both --teacher and --student'
