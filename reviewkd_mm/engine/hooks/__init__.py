"""Hooks of the training."""

from reviewkd_mm.engine.hooks.epoch_info_hook import EpochInfoHook
from reviewkd_mm.engine.hooks.export_student_hook import ExportStudentHook
from reviewkd_mm.engine.hooks.progress_bar_hook import ProgressBarHook

__all__ = ['EpochInfoHook', 'ExportStudentHook', 'ProgressBarHook']
