"""Hooks of ours by name: those of every training, and with them those of a distillation.

A config takes one of the two as its `default_hooks`. What its other bases say of a hook, such as
the interval of checkpoints, stays.
"""

training_hooks = dict(
    checkpoint=dict(type='reviewkd_mm.AtomicCheckpointHook'),
    exact_resume=dict(type='reviewkd_mm.ExactResumeHook'),
    progress_bar=dict(type='reviewkd_mm.ProgressBarHook'),
)
distillation_hooks = dict(
    training_hooks,
    epoch_info=dict(type='reviewkd_mm.EpochInfoHook'),
    export_student=dict(type='reviewkd_mm.ExportStudentHook'),
    loss_ratio=dict(type='reviewkd_mm.LossRatioHook'),
    non_finite_loss=dict(type='reviewkd_mm.NonFiniteLossHook'),
)
