"""Losses: compare two lists of features, or two sets of logits."""

from reviewkd_mm.models.losses.attention_transfer import AttentionTransferLoss
from reviewkd_mm.models.losses.crd_loss import CRDLoss
from reviewkd_mm.models.losses.dist_loss import DISTLoss
from reviewkd_mm.models.losses.dkd_loss import DKDLoss
from reviewkd_mm.models.losses.hcl_loss import HCLLoss
from reviewkd_mm.models.losses.kl_divergence import KLDivergence
from reviewkd_mm.models.losses.ofd_loss import OFDLoss
from reviewkd_mm.models.losses.rkd_loss import RKDLoss
from reviewkd_mm.models.losses.similarity_loss import SimilarityLoss

__all__ = [
    'AttentionTransferLoss',
    'CRDLoss',
    'DISTLoss',
    'DKDLoss',
    'HCLLoss',
    'KLDivergence',
    'OFDLoss',
    'RKDLoss',
    'SimilarityLoss',
]
