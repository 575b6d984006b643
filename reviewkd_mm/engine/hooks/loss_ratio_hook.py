"""Log how great each transfer's loss is beside the task's."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from reviewkd_mm.engine.hooks.distiller_of import distiller_of
from reviewkd_mm.registry import HOOKS


@HOOKS.register_module()
class LossRatioHook(Hook):
    """Log ``ratio_<name>``, the loss of each transfer divided by the sum of the task's losses.

    Both are means over the log's window, as the log shows them, weights and warm-up included. It
    is written beside the losses and is none of them. There is none where the task's losses are 0.
    Does nothing in a training without a distiller.
    """

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | Sequence | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Write the ratios for LoggerHook, which comes after it.

        RuntimeInfoHook, which comes before it, has made numbers of the losses.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch, unused.
            data_batch (dict | tuple | Sequence, optional): The batch, unused. Defaults to None.
            outputs (dict, optional): The losses by name. Defaults to None.
        """
        distiller = distiller_of(runner)
        if distiller is None or not outputs:
            return
        transfers = {name: f'loss_{name}' for name in distiller.transfers}
        window = getattr(runner.log_processor, 'window_size', None)
        means = {
            key: runner.message_hub.get_scalar(f'train/{key}').mean(window)
            for key in outputs
            if 'loss' in key and key != 'loss'
        }
        task = sum(mean for key, mean in means.items() if key not in transfers.values())
        if task == 0:
            return
        for name, key in transfers.items():
            runner.message_hub.update_scalar(f'train/ratio_{name}', means[key] / task)
