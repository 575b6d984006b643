"""The stand-in inside MMDetection."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.hub import get_config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmengine.visualization import Visualizer

from reviewkd_mm import mmcv_ops
from tests.mmcv_ops.references import TARGET, logits
from tests.numbers import assert_close64


def shrunken(config: str) -> dict[str, Any]:
    """The model of a zoo config with ResNet-18, 16 channels and 3 classes."""
    model = get_config(f'mmdet::{config}').model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    if 'bbox_head' in model:
        model.bbox_head.update(in_channels=16, feat_channels=16, num_classes=3)
        model.test_cfg.score_thr = 0.0
        return model
    model.rpn_head.update(in_channels=16, feat_channels=16)
    for name, head in model.roi_head.items():
        if name.endswith('_roi_extractor'):
            head.out_channels = 16
        if name in ('bbox_head', 'mask_head'):
            head.update(in_channels=16, num_classes=3)
    model.roi_head.bbox_head.fc_out_channels = 32
    model.roi_head.mask_head.conv_out_channels = 16
    for part in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        part.update(nms_pre=50, max_per_img=20)
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    return model


def bright_square(index: int) -> dict[str, Any]:
    """A 64 x 64 image with one object."""
    corner, side = 8 + 8 * index, 24
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, corner : corner + side, corner : corner + side] = 255
    box = torch.tensor([[corner, corner, corner + side, corner + side]], dtype=torch.float32)
    mask = (image[:1] > 0).numpy().astype(np.uint8)
    sample = DetDataSample(
        metainfo=dict(
            img_id=index,
            img_shape=(64, 64),
            ori_shape=(64, 64),
            scale_factor=(1.0, 1.0),
            batch_input_shape=(64, 64),
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(box),
        labels=torch.tensor([index % 3]),
        masks=BitmapMasks(mask, 64, 64),
    )
    return dict(inputs=image, data_samples=sample)


@pytest.fixture
def own_globals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a Runner leaves in the process: its scope, message hub, logger, visualizer."""
    for manager in (DefaultScope, MessageHub, MMLogger, Visualizer):
        monkeypatch.setattr(manager, '_instance_dict', manager._instance_dict.copy())


@pytest.mark.usefixtures('own_globals')
@pytest.mark.parametrize(
    ('config', 'used_in_training', 'used_in_prediction'),
    [
        ('retinanet/retinanet_r50_fpn_1x_coco.py', (), ('nms',)),
        (
            'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
            ('nms', 'roi_align_forward', 'roi_align_backward'),
            ('nms', 'roi_align_forward'),
        ),
    ],
    ids=['RetinaNet', 'Mask R-CNN'],
)
def test_a_runner_trains_a_detector(
    stand_in: mmcv_ops.StandIn,
    tmp_path: Path,
    config: str,
    used_in_training: tuple[str, ...],
    used_in_prediction: tuple[str, ...],
) -> None:
    ops = {op.__name__: Mock(wraps=op) for op in mmcv_ops.PROVIDED_OPS}
    for name, op in ops.items():
        setattr(stand_in, name, op)
    torch.manual_seed(0)
    runner = Runner(
        model=shrunken(config),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=[bright_square(i) for i in range(2)],
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            batch_size=2,
        ),
        train_cfg=dict(by_epoch=False, max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=None),
        default_scope='mmdet',
        experiment_name=f'{tmp_path.parent.name}_{tmp_path.name}',
        log_level='ERROR',
    )
    parameters = dict(runner.model.named_parameters())
    before = {name: p.detach().clone() for name, p in parameters.items()}
    runner.train()
    for name in used_in_training:
        assert ops[name].called, name
    assert runner.iter == 1
    assert all(p.isfinite().all() for p in parameters.values())
    assert any(not torch.equal(p, before[name]) for name, p in parameters.items())

    for op in ops.values():
        op.reset_mock()
    runner.model.eval()
    batch = {key: [bright_square(0)[key]] for key in ('inputs', 'data_samples')}
    (prediction,) = runner.model.test_step(batch)
    assert len(prediction.pred_instances) > 0
    for name in used_in_prediction:
        assert ops[name].called, name


def test_mmdet_focal_loss_as_on_a_gpu(stand_in: mmcv_ops.StandIn) -> None:
    """MMDetection calls MMCV's focal loss on CUDA only, and one in plain torch on a CPU."""
    from mmdet.models.losses.focal_loss import FocalLoss, sigmoid_focal_loss

    stand_in.sigmoid_focal_loss_forward = Mock(wraps=mmcv_ops.sigmoid_focal_loss_forward)
    weight = torch.rand(6, dtype=torch.float64)
    on_gpu, on_cpu = logits().requires_grad_(), logits().requires_grad_()
    loss = sigmoid_focal_loss(on_gpu, TARGET, weight, avg_factor=3.0)
    expected = FocalLoss()(on_cpu, TARGET, weight, avg_factor=3.0)
    assert stand_in.sigmoid_focal_loss_forward.called
    assert_close64(loss, expected)
    loss.backward()
    expected.backward()
    assert_close64(on_gpu.grad, on_cpu.grad)
