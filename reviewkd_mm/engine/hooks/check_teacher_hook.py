"""See that the teacher is what it should be, and that it stays so."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from itertools import islice

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from reviewkd_mm.engine.hooks.distiller_of import distiller_of
from reviewkd_mm.errors import ConfigError, RunError
from reviewkd_mm.models.distillers import Distiller
from reviewkd_mm.registry import HOOKS
from reviewkd_mm.utils import forked_rng

# Whose num_classes is that of the model; of several, the first.
HEADS = (
    'panoptic_fusion_head',
    'roi_head.bbox_head',
    'bbox_head',
    'mask_head',
    'decode_head',
    'head',
)


@HOOKS.register_module()
class CheckTeacherHook(Hook):
    """Evaluate the teacher before the training, and see after it that nothing changed the teacher.

    The teacher predicts on the validation data as it is prepared for the student, in its own
    normalisation and precision, and the config's own evaluator judges it: what a wrong checkpoint,
    channel order or normalisation would ruin shows in the log before anything is trained. Metrics
    that know all images of an annotation file, as MMDetection's CocoMetric does, count those of
    the batches alone. The training sees the batches that it would see without the check.
    A teacher of another number of classes than the validation data's is not evaluated.

    Args:
        num_batches (int, optional): Batches of the validation data, in each process. Defaults to
            None, which means all.

    Raises:
        ValueError: If ``num_batches`` is less than 1.

    Examples:
        >>> custom_hooks = [dict(type='reviewkd_mm.CheckTeacherHook', num_batches=10)]
    """

    def __init__(self, num_batches: int | None = None) -> None:
        if num_batches is not None and (not isinstance(num_batches, int) or num_batches < 1):
            raise ConfigError(
                f'CheckTeacherHook: num_batches={num_batches!r}: expected a number of batches '
                '>= 1, or None for all'
            )
        self.num_batches = num_batches
        self._before: dict[str, str] = {}

    def before_train(self, runner: Runner) -> None:
        """Evaluate the teacher, log its metrics and note its weights.

        Args:
            runner (Runner): The runner.

        Raises:
            ValueError: If the model is no distiller, or the config has no validation.
        """
        distiller = _distiller(runner)
        if runner.val_loop is None:
            raise ConfigError(
                'CheckTeacherHook: expected val_dataloader, val_evaluator and val_cfg in the '
                'config, on which the teacher is evaluated'
            )
        self._before = state_digests(distiller.teacher)
        # The dataloader draws a seed of its workers.
        with forked_rng(0):
            found = self._describe(runner, distiller)
        runner.logger.info(
            f'{found}; SHA-256 of its weights and buffers: {combined(self._before)}'
        )

    def after_train(self, runner: Runner) -> None:
        """Compare the teacher with what it was.

        Args:
            runner (Runner): The runner.

        Raises:
            RuntimeError: If a weight or buffer is not what it was.
        """
        after = state_digests(_distiller(runner).teacher)
        names = sorted({*self._before, *after})
        changed = [name for name in names if self._before.get(name) != after.get(name)]
        if changed:
            more = ', …' if len(changed) > 4 else ''
            raise RunError(
                f'CheckTeacherHook: the training changed {len(changed)} weights or buffers of the '
                f'teacher ({", ".join(changed[:4])}{more}): the student learned from what no '
                'checkpoint holds'
            )
        runner.logger.info(f'The teacher is what it was: SHA-256 {combined(after)}')

    def _describe(self, runner: Runner, distiller: Distiller) -> str:
        dataset = runner.val_dataloader.dataset
        known = count_classes(distiller.teacher)
        classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        if None not in (known, classes) and known != len(classes):
            return (
                f'The teacher is not evaluated: it has {known} classes, the validation data '
                f'{len(classes)}'
            )
        metrics, count = self._evaluate(runner, distiller)
        values = ', '.join(f'{name}: {_format(value)}' for name, value in metrics.items())
        return f'The teacher on {count} of {len(dataset)} validation samples: {values}'

    @torch.no_grad()
    def _evaluate(self, runner: Runner, distiller: Distiller) -> tuple[dict, int]:
        """Return the teacher's metrics and the number of samples that they are of."""
        # Anew: the validation's own may keep what it has read.
        evaluator = runner.build_evaluator(copy.deepcopy(runner.cfg.val_evaluator))
        evaluator.dataset_meta = getattr(runner.val_dataloader.dataset, 'metainfo', None)
        seen, count = [], 0
        for batch in islice(runner.val_dataloader, self.num_batches):
            predictions = distiller.teacher_step(batch)
            evaluator.process(data_samples=predictions, data_batch=batch)
            seen += [getattr(prediction, 'img_id', None) for prediction in predictions]
            count += len(predictions)
        everywhere = all_gather_object((seen, count))
        ids = [image for images, _ in everywhere for image in images]
        total = min(sum(count for _, count in everywhere), len(runner.val_dataloader.dataset))
        for metric in evaluator.metrics:
            if getattr(metric, 'img_ids', 0) is None and None not in ids:
                metric.img_ids = list(dict.fromkeys(ids))
        return evaluator.evaluate(total), total


def state_digests(model: nn.Module) -> dict[str, str]:
    """Return the SHA-256 of each parameter and buffer, those included that are not saved.

    Args:
        model (nn.Module): The model.

    Returns:
        dict[str, str]: Hexadecimal digests of dtype, shape and bytes, by name.
    """
    digests = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        sha = hashlib.sha256(f'{tensor.dtype} {tuple(tensor.shape)} '.encode())
        sha.update(values.numpy())
        digests[name] = sha.hexdigest()
    return digests


def count_classes(model: nn.Module) -> int | None:
    """Return the number of classes that a model of MMPretrain, MMDetection or MMSegmentation has.

    Args:
        model (nn.Module): The model.

    Returns:
        int | None: The number, those of "things" and "stuff" together; None where it is not known.
    """
    for path in HEADS:
        head = model
        for name in path.split('.'):
            head = getattr(head, name, None)
        if isinstance(head, nn.ModuleList):  # the stages of a cascade
            head = head[-1]
        count = getattr(head, 'num_classes', None)
        if isinstance(count, int):
            return count
    return None


def combined(digests: Mapping[str, str]) -> str:
    """Return one digest of all, which depends on the names as well.

    Args:
        digests (Mapping[str, str]): What :func:`state_digests` returns.
    """
    lines = '\n'.join(f'{name} {digest}' for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _distiller(runner: Runner) -> Distiller:
    distiller = distiller_of(runner)
    if distiller is None:
        raise ConfigError(
            f'CheckTeacherHook: the model is a {type(runner.model).__name__}, which has no '
            'teacher; expected a Distiller'
        )
    return distiller


def _format(value: object) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
