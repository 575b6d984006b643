"""Go on after a stop as if there had been none."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader, Sampler

from reviewkd_mm.datasets.seeded_batches import SeededBatches
from reviewkd_mm.engine.hooks.random_states import random_state, set_random_state
from reviewkd_mm.registry import HOOKS

KEY = 'random_state'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make a training that is resumed draw the numbers that it would have drawn without the stop.

    The checkpoints hold the state of the random number generators of every process and the seed
    of the sampler. In a training by epochs the augmentations of a batch are drawn from the seed,
    the epoch and the batch, see :class:`SeededBatches`. Neither the start of dataloader workers
    nor a validation moves the training's random numbers.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None
        self._batches: SeededBatches | None = None
        self._states: list[dict[str, Any]] = []
        self._before_validation: dict[str, Any] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what a checkpoint says of the random numbers.

        Args:
            runner (Runner): The runner.
            checkpoint (dict): The checkpoint.
        """
        self._loaded = checkpoint.get(KEY)

    def before_train(self, runner: Runner) -> None:
        """Prepare the dataloader before its first worker starts.

        Args:
            runner (Runner): The runner.
        """
        loader = runner.train_dataloader
        if not runner.iter:  # The checkpoint is a start from other weights, no resume.
            self._loaded = None
        if self._loaded is not None and self._loaded['sampler_seed'] is not None:
            _sampler(loader).seed = self._loaded['sampler_seed']
        # Else each start of workers would draw a number from the training's generator.
        loader.generator = torch.Generator().manual_seed(runner.seed)
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._batches = SeededBatches.install(loader.dataset, runner.seed)

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the dataloader's workers the epoch, and go on from a resumed random state.

        Args:
            runner (Runner): The runner.
        """
        self._states = []
        if self._batches is not None:
            self._batches.epoch = runner.epoch
        if self._loaded is None:
            return
        by_rank = self._loaded['by_rank']
        if get_rank() < len(by_rank):
            set_random_state(by_rank[get_rank()])
        self._loaded = None

    def after_train_epoch(self, runner: Runner) -> None:
        """Gather the random states of all processes: one of them alone writes the checkpoint.

        Args:
            runner (Runner): The runner.
        """
        self._states = all_gather_object(random_state())

    def before_val(self, runner: Runner) -> None:
        """Keep the random state from a validation.

        Args:
            runner (Runner): The runner.
        """
        self._before_validation = random_state()

    def after_val(self, runner: Runner) -> None:
        """Put back the random state of before a validation.

        Args:
            runner (Runner): The runner.
        """
        set_random_state(self._before_validation)
        self._before_validation = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the random states.

        Args:
            runner (Runner): The runner.
            checkpoint (dict): The checkpoint, to which they are added.
        """
        if self._loaded is not None:  # Nothing has been drawn since it was resumed from.
            checkpoint[KEY] = self._loaded
            return
        own = self._before_validation or random_state()
        seed = getattr(_sampler(runner.train_dataloader), 'seed', None)
        checkpoint[KEY] = dict(by_rank=[own, *self._states[1:]], sampler_seed=seed)


def _sampler(loader: DataLoader) -> Sampler:
    """Return the sampler of the samples, which a sampler of batches may hold."""
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)
