"""Reading, building and measuring the configs of the repository."""

from __future__ import annotations

import io
import tokenize
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from reviewkd_mm.config import is_distiller, read_config
from reviewkd_mm.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FILES = sorted(file for file in CONFIGS.glob('*/*.py') if file.parent.name != '_base_')
SEGMENTORS = ('pspnet_r101_r18_cityscapes',)
# By name, without and with a teacher.
TRAINING_HOOKS = {'AtomicCheckpointHook', 'ExactResumeHook', 'ProgressBarHook'}
DISTILLATION_HOOKS = {'EpochInfoHook', 'ExportStudentHook', 'LossRatioHook', 'NonFiniteLossHook'}
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def name_of(file: Path) -> str:
    """Return ``'reviewkd/some_pair'``, to name a parametrised test."""
    return f'{file.parent.name}/{file.stem}'


def skip_without_mmseg(name: str) -> None:
    """Skip the test of a segmentor's config where MMSegmentation is not installed."""
    if name in SEGMENTORS:
        pytest.importorskip('mmseg', reason='it needs MMSegmentation, requirements/optional.txt')


def expected_hooks(cfg: Config) -> set[str]:
    """Return the names of the hooks of ours that a config has to bring along."""
    return TRAINING_HOOKS | (DISTILLATION_HOOKS if is_distiller(cfg.model) else set())


def read(file: Path) -> Config:
    """Read a config and make its default scope the current one."""
    cfg = read_config(file)
    DefaultScope.get_instance(f'test of {file.stem}', scope_name=cfg.default_scope)
    return cfg


def build(cfg: Config) -> nn.Module:
    """Build a config's model as the Runner does, with an untrained teacher."""
    model = cfg.model
    if is_distiller(model):
        model.teacher_ckpt = 'random'
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.root.build(model)
    model.init_weights()
    return model


def code_lines(file: Path) -> int:
    """Count the lines of a config that are neither docstring, comment nor blank."""
    lines, docstring = set(), True
    for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
        if token.type in LAYOUT:
            continue
        if not docstring or token.type != tokenize.STRING:
            lines.update(range(token.start[0], token.end[0] + 1))
        docstring = False
    return len(lines)
