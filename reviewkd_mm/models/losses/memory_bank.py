"""A memory of the embeddings of a whole data set, and the contrast of a batch with it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from torch import Tensor, nn

# What the authors add to a denominator.
EPS = 1e-7


class MemoryBank(nn.Module):
    """Embeddings of all images of a data set, as they were when each was last seen.

    Its state is in buffers: a run that is resumed goes on with it. In distributed training every
    process keeps the same bank, of the images of all.

    Args:
        num_samples (int): Length of the data set.
        channels (int): Length of an embedding.
        momentum (float): Share of what is remembered when an image is seen again.
        tau (float): Temperature of the contrast.
    """

    def __init__(self, num_samples: int, channels: int, momentum: float, tau: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.tau = tau
        bound = (3 / channels) ** 0.5  # of vectors of length 1 on average
        self.register_buffer('vectors', torch.empty(num_samples, channels).uniform_(-bound, bound))
        # The normaliser, 0 until the first batch has told it.
        self.register_buffer('scale', torch.zeros(()))

    def contrast(self, embeddings: Tensor, candidates: Tensor) -> Tensor:
        """Tell each image's own embedding in memory from those of other images.

        The noise-contrastive estimate of "Contrastive Representation Distillation" (ICLR 2020),
        eq. 18, with the normaliser fixed by the first batch, as the authors' code has it.

        Args:
            embeddings (Tensor): Embeddings (N, C) of length 1, of the other model.
            candidates (Tensor): Indices (N, 1 + K): the image's own, then those of others.

        Returns:
            Tensor: The loss, a 0-d tensor, averaged over the batch.
        """
        num_samples = len(self.vectors)
        # All products, and of these the few: the vectors of the few take a hundred times the
        # memory. A copy, since the bank is updated before the gradient is computed.
        products = embeddings @ self.vectors.clone().T
        scores = (products.gather(1, candidates) / self.tau).exp()
        scores = scores / self._normaliser(scores.detach().mean() * num_samples)
        noise = (candidates.shape[1] - 1) / num_samples
        total = (scores + (noise + EPS)).log()
        # Of each image log(score / total), and log(noise / total) of its K others.
        own = scores[:, 0].log() - total[:, 0]
        others = torch.full_like(total[:, 1:], noise).log() - total[:, 1:]
        return -(own.sum() + others.sum()) / len(embeddings)

    @torch.no_grad()
    def update(self, indices: Tensor, embeddings: Tensor) -> None:
        """Remember the embeddings of a batch.

        Args:
            indices (Tensor): The images' places (N,) in the data set.
            embeddings (Tensor): Embeddings (N, C) of length 1, of the bank's own model.
        """
        kept = self.momentum * self.vectors[indices]
        mixed = kept + (1 - self.momentum) * embeddings
        self.vectors.index_copy_(0, indices, F.normalize(mixed, dim=1))

    def _normaliser(self, estimate: Tensor) -> Tensor:
        estimate = torch.stack(all_gather(estimate)).mean()
        # No branch on a value that the device would have to be waited for.
        scale = torch.where(self.scale > 0, self.scale, estimate)
        if self.training:
            self.scale.copy_(scale)
        return scale
