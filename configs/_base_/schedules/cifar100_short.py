"""A schedule of 8 epochs for machines without a GPU: the authors' optimizer and one cycle of the
learning rate, which rises for 2 epochs and falls along a cosine for 6. The warm-up of a feature
loss is as short as the schedule: 20 / 240 of it.

The cycle is of two schedulers because OneCycleLR has a peak of its own, which scaling the
optimizer's learning rate with the batch size would not reach. ``--amp`` makes a training faster on
a processor that computes in bfloat16.
"""

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, begin=0, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=6, begin=2, end=8, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=8, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)
warmup_epochs = 8 * 20 / 240
