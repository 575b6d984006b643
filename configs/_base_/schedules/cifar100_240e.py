"""The ReviewKD authors' CIFAR-100 schedule: 240 epochs at batch 128, learning rate 0.1, divided by
10 after epochs 150, 180 and 210 counted from 0. The feature loss warms up over 20 epochs.
"""

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
)
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[151, 181, 211], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=240, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)
warmup_epochs = 20
