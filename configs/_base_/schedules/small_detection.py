"""12 epochs of 4 images a step with AdamW, for small detectors from scratch on small data."""

warmup = dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100)
decay = dict(type='CosineAnnealingLR', T_max=12, convert_to_iter_based=True)
param_scheduler = [warmup, decay]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),
    clip_grad=dict(max_norm=10),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=4)
