"""Optimizer wrappers, and what constructs them."""

from reviewkd_mm.engine.optimizers.amp_optim_wrapper import AmpOptimWrapper
from reviewkd_mm.engine.optimizers.student_optim_wrapper_constructor import (
    StudentOptimWrapperConstructor,
)

__all__ = ['AmpOptimWrapper', 'StudentOptimWrapperConstructor']
