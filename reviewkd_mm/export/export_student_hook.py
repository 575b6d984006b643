"""Export the student while it trains."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from reviewkd_mm.config import is_distiller
from reviewkd_mm.export.student import export_student
from reviewkd_mm.files.safe_loading import UntrustedError
from reviewkd_mm.registry import HOOKS


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """Export the student of the best and of the last checkpoint by itself.

    Writes ``student_best.pth`` whenever CheckpointHook finds a new best, and
    ``student_last.pth`` at the end, each with its config, a ``.py`` of the same name, into the
    work directory. Does nothing in a training without a distiller.
    """

    # After CheckpointHook, whose files it reads.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._exported: str | None = None

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Export a new best checkpoint.

        Args:
            runner (Runner): The runner.
            metrics (dict, optional): The validation's results, unused. Defaults to None.
        """
        self._export_best(runner)

    def after_train(self, runner: Runner) -> None:
        """Export the last checkpoint, and the best if a crash has prevented that.

        Args:
            runner (Runner): The runner.
        """
        self._export_best(runner)
        last = runner.message_hub.get_info('last_ckpt')
        if last is not None:
            self._export(runner, last, 'student_last.pth')

    def _export_best(self, runner: Runner) -> None:
        best = runner.message_hub.get_info('best_ckpt')
        if best is None or best == self._exported:
            return
        self._exported = best
        self._export(runner, best, 'student_best.pth')

    @master_only
    def _export(self, runner: Runner, checkpoint: str, name: str) -> None:
        if not is_distiller(runner.cfg.get('model') or {}):
            return
        try:
            out, config = export_student(runner.cfg, checkpoint, Path(runner.work_dir) / name)
        except (FileNotFoundError, UntrustedError) as error:
            # The best of a training that was resumed may have been deleted or moved since. Other
            # hooks may store in a checkpoint what is read from a trusted one alone.
            runner.logger.warning(f'{name} was not exported: {error}')
            return
        runner.logger.info(f'Exported the student to {out}, its config to {config}')
