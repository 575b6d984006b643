"""Losses: compare two lists of features, or two sets of logits."""

from reviewkd_mm.models.losses.hcl_loss import HCLLoss
from reviewkd_mm.models.losses.kl_divergence import KLDivergence

__all__ = ['HCLLoss', 'KLDivergence']
