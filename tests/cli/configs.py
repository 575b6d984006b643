"""Small configs for the tests of what checks configs."""

from __future__ import annotations

from pathlib import Path

from tests.models.distillers.helpers import classifier, distiller_cfg, teacher_classifier

IMAGE_SIZE = 32
PIPELINE = [dict(type='RandomCrop', crop_size=IMAGE_SIZE, padding=4), dict(type='PackInputs')]
LOADER = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='reviewkd_mm.Digits', image_size=IMAGE_SIZE, num_train=5, pipeline=PIPELINE),
)


def write_config(file: Path, model: dict, **settings: object) -> str:
    """Write a training config and return its path; keyword arguments are further keys."""
    keys = dict(default_scope='mmpretrain', model=model, train_dataloader=LOADER, **settings)
    file.write_text('\n'.join(f'{key} = {value!r}' for key, value in keys.items()))
    return str(file)


def write_pair(file: Path, **kwargs: object) -> str:
    """Write the config of a distiller; keyword arguments replace keys of the distiller's."""
    return write_config(file, distiller_cfg(**kwargs))


def write_baseline(file: Path, **kwargs: object) -> str:
    """Write the config of the student alone; keyword arguments replace keys of the model's."""
    return write_config(file, classifier(**kwargs))


def write_teacher(file: Path) -> str:
    """Write the config of the teacher alone."""
    return write_config(file, teacher_classifier())
