"""4 epochs of 4 images a step with AdamW, for detectors that learn from scratch in a minute."""

warmup = dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50)
decay = dict(type='CosineAnnealingLR', T_max=4, convert_to_iter_based=True)
param_scheduler = [warmup, decay]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),
    clip_grad=dict(max_norm=10),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=4)
