"""What a distillation adds to its training: the epoch for the warm-up, the exported student, and
random numbers that a resumed training draws as if it had not been stopped.
"""

custom_hooks = [
    dict(type='reviewkd_mm.EpochInfoHook'),
    dict(type='reviewkd_mm.ExportStudentHook'),
    dict(type='reviewkd_mm.ExactResumeHook'),
]
