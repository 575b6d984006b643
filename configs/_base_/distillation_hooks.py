"""What a distillation adds to its training: the epoch for the warm-up and the exported student."""

custom_hooks = [
    dict(type='reviewkd_mm.EpochInfoHook'),
    dict(type='reviewkd_mm.ExportStudentHook'),
]
