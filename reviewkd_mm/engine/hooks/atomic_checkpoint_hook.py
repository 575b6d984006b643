"""Checkpoints that survive a crash at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from reviewkd_mm.files.atomic_files import BACKEND, remove_partial, write_text
from reviewkd_mm.registry import HOOKS


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook for trainings that may be killed at any moment.

    - A checkpoint in a local folder, and the file ``last_checkpoint``, is written under another
      name and renamed when it is whole.
    - An old checkpoint is removed when the new one is there, not before.
    - A checkpoint is saved before the validation of its epoch and again after it, with the
      results. A training that is resumed from one saved before validates first. With MMEngine's
      FlexibleRunner it is saved before alone, and a validation is not made up.

    Takes the arguments of MMEngine's hook.

    Args:
        interval (int): Epochs or iterations from one checkpoint to the next, by default as in
            MMEngine's own ``default_hooks``. Defaults to 1.
        *args: As MMEngine's hook.
        **kwargs: As MMEngine's hook.
    """

    def __init__(self, interval: int = 1, *args: Any, **kwargs: Any) -> None:
        super().__init__(interval, *args, **kwargs)
        self._validated = True
        self._saved_with_results = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note whether a checkpoint was saved after the validation of its epoch.

        Args:
            runner (Runner): The runner.
            checkpoint (dict): The checkpoint.
        """
        # Those of other hooks do not say.
        self._validated = checkpoint.get('meta', {}).get('validated', True)

    def before_train(self, runner: Runner) -> None:
        """Clear up after a crash, and make up for a validation that a stop has prevented.

        Args:
            runner (Runner): The runner.
        """
        super().before_train(runner)
        written = {str(runner.work_dir)}
        if isinstance(self.file_backend, LocalBackend) and self.backend_args is None:
            self.backend_args = dict(backend=BACKEND)
            written.add(str(self.out_dir))
        if is_main_process():
            for folder in written:
                remove_partial(folder)
        is_resumed = runner.iter > 0
        if is_resumed and not self._validated and _validation_is_due(runner):
            runner.logger.info('Validating first: the training was stopped before it could.')
            # What is resumed from is saved again with the results: after the end nothing else is.
            self.last_ckpt = runner.message_hub.get_info('last_ckpt')
            runner.val_loop.run()

    def after_train_epoch(self, runner: Runner) -> None:
        """Save a checkpoint if it is time.

        Args:
            runner (Runner): The runner.
        """
        self._validated = False
        super().after_train_epoch(runner)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint if it is time.

        Args:
            runner (Runner): The runner.
            *args: As MMEngine's hook.
            **kwargs: As MMEngine's hook.
        """
        self._validated = False
        super().after_train_iter(runner, *args, **kwargs)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint, and the last one with what the validation has found.

        Args:
            runner (Runner): The runner.
            metrics (dict): The results of the validation.
        """
        self._validated = True
        self._saved_with_results = False
        super().after_val_epoch(runner, metrics)
        if self.last_ckpt is None or self._saved_with_results:
            return
        step = runner.epoch if self.by_epoch else runner.iter
        if Path(self.last_ckpt).name == self.filename_tmpl.format(step):
            meta = dict(epoch=runner.epoch, iter=runner.iter)
            self._save_checkpoint_with_step(runner, step, meta)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # After the validation MMEngine's FlexibleRunner counts the epoch twice in a checkpoint.
        if self._validated and not isinstance(runner, Runner):
            return
        outdated = self._keep(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=dict(meta, validated=self._validated or not isinstance(runner, Runner)),
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._saved_with_results = self._validated
        if not is_main_process():
            return
        write_text(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
        if outdated is not None:
            name = self.filename_tmpl.format(outdated)
            self._remove(self.file_backend.join_path(self.out_dir, name))

    def _keep(self, runner: Runner, step: int) -> int | None:
        """Note that a step's checkpoint is kept, and return the step whose is not any more."""
        if self.max_keep_ckpts <= 0 or step in list(self.keep_ckpt_ids)[-1:]:
            return None
        is_full = len(self.keep_ckpt_ids) == self.max_keep_ckpts
        outdated = self.keep_ckpt_ids.popleft() if is_full else None
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return outdated

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        # MMEngine's hook removes the best that it knows of before it saves a better one.
        before = self._best_paths()
        self._set_best_paths(dict.fromkeys(before))
        super()._save_best_checkpoint(runner, metrics)
        found = self._best_paths()
        self._set_best_paths({key: found[key] or path for key, path in before.items()})
        if not is_main_process():
            return
        for key, path in before.items():
            if path and found[key] and path != found[key]:
                self._remove(path)
                runner.logger.info(f'The previous best checkpoint {path} is removed')

    def _best_paths(self) -> dict[str, str | None]:
        if len(self.key_indicators) == 1:
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best_paths(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = dict(paths)

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed's
            self.file_backend.rmtree(path)


def _validation_is_due(runner: Runner) -> bool:
    """Tell whether the training loop validates after what has been trained so far."""
    loop = runner.train_loop
    if runner.val_loop is None:
        return False
    loop._decide_current_val_interval()
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, total = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == total)
