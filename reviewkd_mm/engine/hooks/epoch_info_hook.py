"""Tell the epoch of an iteration-based training."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from reviewkd_mm.registry import HOOKS


@HOOKS.register_module()
class EpochInfoHook(Hook):
    """Write the epoch of an iteration-based training into MMEngine's MessageHub.

    MMEngine leaves it at 0 there; the warm-up of a transfer reads it. An epoch is as many
    iterations as the dataloader is long. An epoch-based training needs no such help.
    """

    def before_train(self, runner: Runner) -> None:
        """Write the number of iterations in an epoch: the sign that the epoch can be trusted.

        Args:
            runner (Runner): The runner.
        """
        runner.message_hub.update_info('iters_per_epoch', len(runner.train_dataloader))

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | Sequence | None = None
    ) -> None:
        """Write the epoch.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch, unused.
            data_batch (dict | tuple | Sequence, optional): The batch, unused. Defaults to None.
        """
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            epoch = runner.iter // len(runner.train_dataloader)
            runner.message_hub.update_info('epoch', epoch)
