"""Hooks of the training."""

from reviewkd_mm.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from reviewkd_mm.engine.hooks.check_teacher_hook import CheckTeacherHook
from reviewkd_mm.engine.hooks.epoch_info_hook import EpochInfoHook
from reviewkd_mm.engine.hooks.exact_resume_hook import ExactResumeHook
from reviewkd_mm.engine.hooks.loss_ratio_hook import LossRatioHook
from reviewkd_mm.engine.hooks.non_finite_loss_hook import NonFiniteLossHook
from reviewkd_mm.engine.hooks.progress_bar_hook import ProgressBarHook

__all__ = [
    'AtomicCheckpointHook',
    'CheckTeacherHook',
    'EpochInfoHook',
    'ExactResumeHook',
    'LossRatioHook',
    'NonFiniteLossHook',
    'ProgressBarHook',
]
