"""ShuffleNetV1 on CIFAR-100 without distillation: 0.95 M parameters.

The 240-epoch schedule of the ReviewKD authors with their learning rate for such students.
Published top-1 of the common protocol (batch 64, learning rate 0.01), as LSKD (CVPR 2024)
reprints it: 70.50 %.
"""

_base_ = [
    '../_base_/models/cifar_shufflenet_v1.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar100_240e.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.02))
