"""ImageNet for 100 epochs at batch 256 in mixed precision: MMPretrain's data, SGD at learning rate
0.1, divided by 10 after epochs 30, 60 and 90. `--auto-scale-lr` fits it to other batch sizes.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
    '../hooks.py',
]
optim_wrapper = dict(type='reviewkd_mm.AmpOptimWrapper')
default_hooks = dict(
    _base_.training_hooks,
    checkpoint=dict(_base_.training_hooks.checkpoint, max_keep_ckpts=2, save_best='auto'),
)
