"""The epoch of an iteration-based training reaches the MessageHub."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from tests.models.distillers.helpers import NO_VALIDATION, classifier, train

EPOCH_INFO = dict(type='reviewkd_mm.EpochInfoHook')


@HOOKS.register_module(force=True)
class ReadHub(Hook):
    """Note what the hub says in each iteration."""

    priority = 'LOW'
    seen: list[tuple]

    def before_train(self, runner) -> None:
        type(self).seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        info = runner.message_hub.get_info
        self.seen.append((info('epoch'), info('iters_per_epoch')))


def seen(tmp_path, loop: dict, sampler: dict, hooks: list) -> list[tuple]:
    loader = dict(
        batch_size=3,
        num_workers=0,
        sampler=sampler,
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='reviewkd_mm.TinyImages', length=6),
    )
    hooks = [*hooks, dict(type='ReadHub')]
    options = dict(train_cfg=loop, train_dataloader=loader, custom_hooks=hooks)
    train(classifier(), tmp_path, **options, **NO_VALIDATION)
    return ReadHub.seen


def test_iterations_are_counted_in_epochs(tmp_path):
    loop = dict(type='IterBasedTrainLoop', max_iters=5, val_interval=5)

    epochs = seen(tmp_path, loop, dict(type='InfiniteSampler'), [EPOCH_INFO])

    assert epochs == [(0, 2), (0, 2), (1, 2), (1, 2), (2, 2)]


def test_mmengine_leaves_the_epoch_at_zero(tmp_path):
    loop = dict(type='IterBasedTrainLoop', max_iters=3, val_interval=3)

    epochs = seen(tmp_path, loop, dict(type='InfiniteSampler'), [])

    assert epochs == [(0, None)] * 3


def test_epochs_of_an_epoch_based_training_stay_as_they_are(tmp_path):
    loop = dict(by_epoch=True, max_epochs=2)

    epochs = seen(tmp_path, loop, dict(type='DefaultSampler', shuffle=False), [EPOCH_INFO])

    assert epochs == [(0, 2), (0, 2), (1, 2), (1, 2)]
