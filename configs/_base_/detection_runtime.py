"""MMDetection's runtime with the hooks of every training, for the small detection configs."""

_base_ = ['mmdet::_base_/default_runtime.py', './hooks.py']
default_hooks = _base_.training_hooks
