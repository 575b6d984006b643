"""Optimizer wrappers."""

from reviewkd_mm.engine.optimizers.amp_optim_wrapper import AmpOptimWrapper

__all__ = ['AmpOptimWrapper']
