"""ReviewKD between detectors: all levels of the student's FPN against those of the teacher's."""

review_fpn = dict(
    student='neck',
    teacher='neck',
    connector=dict(type='ReviewConnector', mid_channels=256),
    loss=dict(type='HCLLoss', loss_weight=1.0),
)
