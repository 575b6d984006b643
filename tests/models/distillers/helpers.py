"""Tiny models, batches, data sets and runners that the tests of the distiller share."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.registry import DATASETS, MODELS

NUM_CLASSES = 5
STUDENT_WIDTHS = (4, 4, 8, 16)
TEACHER_WIDTHS = (8, 8, 16, 32)
# A thinner student does without channels_last on a CPU.
WIDE = (8, 16, 16, 24)
PIXELS = dict(mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7])
STAGES = ['backbone.layer1', 'backbone.layer2', 'backbone.layer3', 'neck']
BEFORE_RELU = [dict(type='ModuleInputs', source=f'{stage}.-1.relu') for stage in STAGES[:3]]


def classifier(widths: tuple[int, ...] = STUDENT_WIDTHS, **kwargs: Any) -> dict:
    """Config of a CIFAR ResNet-8; keyword arguments replace its keys."""
    cfg = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='reviewkd_mm.CIFARResNet', depth=8, base_channels=widths),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=NUM_CLASSES,
            in_channels=widths[-1],
            loss=dict(type='CrossEntropyLoss'),
            init_cfg=None,
        ),
        data_preprocessor=dict(PIXELS),
    )
    cfg.update(kwargs)
    return copy.deepcopy(cfg)


def teacher_classifier(**kwargs: Any) -> dict:
    """Config of the same network with twice the channels."""
    return classifier(TEACHER_WIDTHS, **kwargs)


def review(**kwargs: Any) -> dict:
    """Config of the review transfer between the two."""
    cfg = dict(
        student=STAGES,
        teacher=[*BEFORE_RELU, 'neck'],
        connector=dict(type='ReviewConnector'),
        loss=dict(type='HCLLoss'),
    )
    cfg.update(kwargs)
    return copy.deepcopy(cfg)


def logits(**kwargs: Any) -> dict:
    """Config of logit distillation."""
    return dict(student='head', teacher='head', loss=dict(type='KLDivergence'), **kwargs)


def distiller_cfg(**kwargs: Any) -> dict:
    """Config of a distiller; keyword arguments replace its keys."""
    cfg = dict(
        type='reviewkd_mm.Distiller',
        student=classifier(),
        teacher=teacher_classifier(),
        teacher_ckpt='random',
        transfers=dict(review=review()),
    )
    cfg.update(kwargs)
    return cfg


def build_distiller(**kwargs: Any) -> Distiller:
    """Build a distiller; keyword arguments replace keys of its config."""
    return MODELS.build(distiller_cfg(**kwargs))


def build(cfg: dict, seed: int = 0) -> nn.Module:
    """Build and initialise a model from a seed."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(cfg['type'].partition('.')[0]):
        model = MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    return model


def batch(count: int = 4, seed: int = 0, size: int = 32) -> tuple[Tensor, list[DataSample]]:
    """Draw a normalised batch (N, 3, size, size) and its samples."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 3, size, size, generator=generator)
    samples = [DataSample().set_gt_label(i % NUM_CLASSES) for i in range(count)]
    return inputs, samples


def total(losses: dict) -> Tensor:
    """Sum the losses as MMEngine does."""
    values = [v for key, v in losses.items() if 'loss' in key]
    return sum(v if isinstance(v, Tensor) else sum(v) for v in values)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Copy all parameters and buffers, those included that are not saved."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors}


def assert_same_state(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Check names, and values bit for bit."""
    assert list(actual) == list(expected)
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert not different, f'these differ: {different}'


@DATASETS.register_module()
class TinyImages(BaseDataset):
    """A few random images (3, 32, 32) of uint8 with labels, flipped at random in training."""

    def __init__(self, length: int = 8, flip: bool = True) -> None:
        self.length, self.flip = length, flip
        super().__init__(serialize_data=False)

    def load_data_list(self) -> list[dict]:
        generator = torch.Generator().manual_seed(3)
        shape = (self.length, 3, 32, 32)
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return [dict(image=image, label=i % NUM_CLASSES) for i, image in enumerate(images)]

    def prepare_data(self, idx: int) -> dict:
        info = self.get_data_info(idx)
        image = info['image']
        if self.flip and torch.rand(()) < 0.5:
            image = image.flip(-1)
        return dict(inputs=image, data_samples=DataSample().set_gt_label(info['label']))


def runner_cfg(model: dict, work_dir: Path, **kwargs: Any) -> Config:
    """Config of a training of two epochs of two iterations with validation."""
    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    images = dict(type='reviewkd_mm.TinyImages')
    cfg = dict(
        default_scope='mmpretrain',
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(loader, dataset=images),
        val_dataloader=dict(
            loader,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(images, flip=False),
        ),
        val_evaluator=dict(type='Accuracy'),
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        val_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        randomness=dict(seed=11),
        experiment_name='_'.join(work_dir.parts[-2:]),
        log_level='ERROR',
    )
    cfg.update(kwargs)
    # Formatting the config for the log takes longer than the training.
    return Config(copy.deepcopy(cfg), format_python_code=False)


def train(model: dict, work_dir: Path, **kwargs: Any) -> Runner:
    """Train with a real Runner and return it."""
    runner = Runner.from_cfg(runner_cfg(model, work_dir, **kwargs))
    runner.train()
    return runner


NO_VALIDATION = dict(val_dataloader=None, val_evaluator=None, val_cfg=None)
