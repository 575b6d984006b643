"""What training offers besides: mixed precision, clipping, averaging, checkpointing, hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmdet.engine.hooks import SyncNormHook, YOLOXModeSwitchHook, sync_norm_hook
from mmdet.models.layers import ExpMomentumEMA
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmpretrain.models.losses import LabelSmoothLoss
from torch import nn

from reviewkd_mm.engine.optimizers import AmpOptimWrapper
from reviewkd_mm.models.distillers import Distiller
from tests.integration.detection import NUM_CLASSES, raw_batch, retinanet
from tests.models.distillers.helpers import (
    assert_same_state,
    batch,
    build_distiller,
    classifier,
    review,
    state_of,
    total,
)
from tests.numbers import COARSE, assert_close64, distance

NECK = dict(student='neck', teacher='neck')


# Without statistics of a few values, which make half precision too coarse to tell anything.
CALM = dict(type='ReviewConnector', norm_cfg=dict(type='GN', num_groups=2))


def classifiers(calm: bool = False) -> tuple[Distiller, dict]:
    """Build a distiller of a classifier and draw a batch as a dataloader gives it."""
    torch.manual_seed(1)
    inputs, samples = batch()
    student, transfer = classifier(), review()
    if calm:
        student['backbone']['norm_eval'] = True
        transfer['connector'] = CALM
    distiller = build_distiller(student=student, transfers=dict(review=transfer)).train()
    return distiller, dict(inputs=inputs * 64 + 128, data_samples=samples)


def detectors(calm: bool = False) -> tuple[Distiller, dict]:
    """Build a distiller of a detector and draw a batch as a dataloader gives it."""
    torch.manual_seed(1)
    student, transfer, data = retinanet(), review(**NECK), raw_batch()
    if calm:
        student['backbone']['norm_eval'] = True
        transfer['connector'] = CALM
        # Of a level of one pixel before the last one, oneDNN's AMX kernels make garbage.
        data = raw_batch(((128, 128), (96, 120)))
    teacher = retinanet(width=6, channels=12)
    distiller = build_distiller(student=student, teacher=teacher, transfers=dict(review=transfer))
    return distiller.train(), data


both = pytest.mark.parametrize('build', [classifiers, detectors])
Build = Callable[..., tuple[Distiller, dict]]
in_float64 = pytest.mark.usefixtures('in_float64')


def sgd(model: nn.Module, lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


def moves(model: nn.Module, before: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return in one vector how far each weight has moved."""
    parts = [p.detach() - before[name] for name, p in model.named_parameters()]
    return torch.cat([part.flatten() for part in parts])


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of this process alone, for what asks for one."""
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def mixed_step(model: nn.Module, data: dict, dtype: torch.dtype) -> dict:
    """Take a step in mixed precision and return what is logged of it, and the moves."""
    before = state_of(model)
    wrapper = AmpOptimWrapper(dtype=dtype, loss_scale=8, optimizer=sgd(model))
    logged = model.train_step(data, wrapper)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    return dict(logged, moves=moves(model, before))


def exact_step(model: nn.Module, data: dict) -> dict:
    """Take the same step in float64."""
    before = state_of(model.double())
    model.data_preprocessor.register_forward_hook(
        lambda *args: dict(args[-1], inputs=args[-1]['inputs'].double())
    )
    logged = model.train_step(data, OptimWrapper(sgd(model)))
    return dict(logged, moves=moves(model, before))


@both
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_a_step_in_mixed_precision_is_as_near_as_one_of_the_student_alone(build: Build, dtype):
    def student() -> tuple[nn.Module, dict]:
        distiller, data = build(calm=True)
        return distiller.student, data

    distiller, data = build(calm=True)
    teacher, seen = state_of(distiller.teacher), []
    distiller.student.backbone.layer1.register_forward_hook(
        lambda *args: seen.append(args[2].dtype)
    )
    actual = mixed_step(distiller, data, dtype)

    assert seen == [dtype]
    assert_same_state(state_of(distiller.teacher), teacher)
    alone = distance(mixed_step(*student(), dtype), exact_step(*student()))
    assert alone < COARSE
    assert distance(actual, exact_step(*build(calm=True))) < 4 * alone


@in_float64
@both
def test_gradients_of_student_and_connectors_are_clipped_together(build: Build):
    distiller, data = build()
    before = state_of(distiller)

    distiller.train_step(data, OptimWrapper(sgd(distiller), clip_grad=dict(max_norm=1e-2)))

    # torch adds 1e-6 to the norm by which it divides.
    assert moves(distiller, before).norm().item() == pytest.approx(1e-2, rel=1e-4)


@in_float64
@both
def test_the_average_of_a_detectors_ema(build: Build):
    """RTMDet and YOLOX train with it, in an EMAHook."""
    distiller, data = build()
    ema = ExpMomentumEMA(distiller, momentum=0.25, gamma=1, update_buffers=True)
    ema.update_parameters(distiller)  # The first call copies.
    before = state_of(distiller)

    distiller.train_step(data, OptimWrapper(sgd(distiller, lr=0.01)))
    ema.update_parameters(distiller)

    momentum = (
        0.75 * torch.tensor(-2.0).exp().item() + 0.25
    )  # (1 - m) exp(-(1 + steps) / gamma) + m
    for name, value in state_of(distiller).items():
        if value.is_floating_point():
            expected = before[name].lerp(value, momentum)
            assert_close64(state_of(ema.module)[name], expected)
    assert ema.module.teacher is distiller.teacher
    ema.module.eval()
    assert len(ema.module.val_step(data)) == len(data['data_samples'])


@in_float64
@pytest.mark.filterwarnings('ignore:.*use_reentrant')
def test_activation_checkpointing_of_a_classifier_changes_no_gradient():
    """A detector's is tested beside its other features."""
    gradients = []
    for with_cp in (False, True):
        backbone = dict(type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4)
        student = classifier((4, 4, 4, 32), backbone=dict(backbone, with_cp=with_cp))
        torch.manual_seed(0)
        distiller = build_distiller(student=student)
        losses = distiller.loss(*batch())
        assert losses['loss_review'] > 0
        total(losses).backward()
        gradients.append({name: p.grad for name, p in distiller.named_parameters()})

    assert_close64(*gradients)


def tiny_yolox(width: float) -> dict:
    """Config of a YOLOX of a given width."""
    stages = [int(width * channels) for channels in (256, 512, 1024)]
    return dict(
        type='mmdet.YOLOX',
        data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
        backbone=dict(type='CSPDarknet', deepen_factor=0.33, widen_factor=width),
        neck=dict(type='YOLOXPAFPN', in_channels=stages, out_channels=stages[0], num_csp_blocks=1),
        bbox_head=dict(
            type='YOLOXHead',
            num_classes=NUM_CLASSES,
            in_channels=stages[0],
            feat_channels=stages[0],
            stacked_convs=1,
        ),
        train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
        test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)),
    )


def runner_of(model: nn.Module, **dataset: Callable) -> SimpleNamespace:
    """Stand in for what hooks read of a runner in its last epoch."""
    return SimpleNamespace(
        epoch=0,
        max_epochs=1,
        model=model,
        logger=logging.getLogger('test'),
        train_dataloader=SimpleNamespace(dataset=SimpleNamespace(**dataset)),
    )


def wrapped(model: nn.Module) -> list[nn.Module]:
    return [model, MMDistributedDataParallel(model, broadcast_buffers=False)]


@pytest.mark.filterwarnings('ignore:.*broadcast_buffers')
def test_yolox_switches_to_its_last_epochs(one_process):
    distiller = build_distiller(
        student=tiny_yolox(1 / 32),
        teacher=tiny_yolox(1 / 16),
        transfers=dict(review=review(**NECK)),
    )
    data = distiller.data_preprocessor(raw_batch(), training=True)
    assert 'loss_l1' not in distiller(**data, mode='loss')

    for model in wrapped(distiller):
        distiller.student.bbox_head.use_l1 = False
        runner = runner_of(model, update_skip_type_keys=lambda keys: None)
        YOLOXModeSwitchHook(num_last_epochs=1).before_train_epoch(runner)

        losses = model(**data, mode='loss')
        assert losses['loss_l1'] > 0
        assert losses['loss_review'] > 0


@pytest.mark.filterwarnings('ignore:.*broadcast_buffers')
def test_batchnorm_averaged_over_processes_is_loaded(one_process, monkeypatch):
    """YOLOX's SyncNormHook loads the state of the BatchNorm layers and of nothing else."""
    monkeypatch.setattr(sync_norm_hook, 'get_dist_info', lambda: (0, 2))
    monkeypatch.setattr(
        sync_norm_hook, 'all_reduce_dict', lambda state, op: {n: v + 1 for n, v in state.items()}
    )
    distiller = build_distiller()
    norms = [name for name, m in distiller.named_modules() if isinstance(m, nn.BatchNorm2d)]
    expected = state_of(distiller)

    for model in wrapped(distiller):
        SyncNormHook().before_val_epoch(runner_of(model))
        for name in expected:
            if name.rpartition('.')[0] in norms:
                expected[name] += 1
        assert_same_state(state_of(distiller), expected)


def test_a_part_of_the_batchnorm_layers_is_no_checkpoint():
    distiller = build_distiller()
    state = sync_norm_hook.get_norm_states(distiller)
    state.popitem()

    with pytest.raises(RuntimeError, match='does not fit the distiller'):
        distiller.load_state_dict(state, strict=False)


def test_mmpretrain_switches_the_loss_of_the_student():
    distiller, data = classifiers()
    before = distiller.train_step(data, OptimWrapper(sgd(distiller, lr=0.0)))
    loss = LabelSmoothLoss(label_smooth_val=0.5, num_classes=5, mode='original')

    SwitchRecipeHook([dict(action_epoch=1, loss=loss)]).before_train_epoch(runner_of(distiller))

    after = distiller.train_step(data, OptimWrapper(sgd(distiller, lr=0.0)))
    assert type(distiller.student.head.loss_module) is LabelSmoothLoss
    assert after['loss_cls'] != before['loss_cls']
    assert torch.equal(after['loss_review'], before['loss_review'])
