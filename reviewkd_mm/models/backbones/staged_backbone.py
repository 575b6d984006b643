"""What the backbones share: a stem, stages, freezing and the kinds of initialisation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reviewkd_mm.errors import ConfigError

# '_BatchNorm' rather than 'BatchNorm2d': SyncBN conversion comes before the initialisation.
KAIMING_INIT = [
    {'type': 'Kaiming', 'layer': 'Conv2d', 'mode': 'fan_out', 'nonlinearity': 'relu'},
    {'type': 'Constant', 'layer': '_BatchNorm', 'val': 1, 'bias': 0},
]


class StagedBackbone(BaseBackbone):
    """A stem, a row of stages, and what may follow the last stage.

    A subclass names its modules by their paths, makes them, then calls ``freeze_stages()``.

    Args:
        out_indices (Sequence[int]): Stages that are returned, counted from 0.
        frozen_stages (int): Stages whose parameters and statistics stay as they are: 0 freezes
            the stem, k the stem and the first k stages, -1 nothing. All of the stages include
            what follows them.
        norm_eval (bool): Whether every BN keeps its running statistics in training.
        init_cfg (dict | list[dict], optional): Initialisation, as in MMEngine.

    Raises:
        ValueError: If ``out_indices`` or ``frozen_stages`` name a stage that there is not.
    """

    stage_names: tuple[str, ...]
    stem_names: tuple[str, ...] = ('conv1', 'bn1')
    tail_names: tuple[str, ...] = ()

    def __init__(
        self,
        out_indices: Sequence[int],
        frozen_stages: int,
        norm_eval: bool,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(init_cfg)
        stages = range(len(self.stage_names))
        indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        if not indices or any(index not in stages for index in indices):
            raise ConfigError(f'out_indices={out_indices!r}: expected some of {[*stages]}')
        if frozen_stages not in range(-1, len(stages) + 1):
            raise ConfigError(
                f'frozen_stages={frozen_stages!r}: expected -1 (none), 0 (the stem) '
                f'to {len(stages)} (all)'
            )
        self.out_indices = tuple(indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

    @abstractmethod
    def stem(self, x: Tensor) -> Tensor:
        """Map the images to the input of the first stage."""

    def tail(self, x: Tensor) -> Tensor:
        """Map the output of the last stage to what is returned for it."""
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of the stages in ``out_indices``.

        Args:
            x (Tensor): Images, (N, 3, H, W).

        Returns:
            tuple[Tensor, ...]: Feature maps, shallow to deep, (N, C_i, H_i, W_i). Where a stage
            halves the size, it is rounded up.
        """
        x = self.stem(x)
        outputs = []
        for index, name in enumerate(self.stage_names):
            x = self.get_submodule(name)(x)
            if index == len(self.stage_names) - 1:
                x = self.tail(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> StagedBackbone:
        """Set the training mode, except for what ``frozen_stages`` and ``norm_eval`` hold."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def freeze_stages(self) -> None:
        """Stop the gradient and fix the statistics of the frozen stages."""
        for module in self._frozen_modules():
            module.eval()
            module.requires_grad_(False)

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        names = [*self.stem_names, *self.stage_names[: self.frozen_stages]]
        if self.frozen_stages == len(self.stage_names):
            names += self.tail_names
        return [self.get_submodule(name) for name in names]
